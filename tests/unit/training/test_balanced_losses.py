"""The losses for unbalanced genres, each against its paper's formula written out by itself, clip by clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from mgc.errors import TrainingError
from mgc.training.losses import Loss, LossConfig, cross_entropy, effective_number_weights, soft_targets

CPU = torch.device("cpu")
COUNTS = (100, 37, 1)
"""100 to 1, and a genre with a single clip."""

Formula = Callable[[np.ndarray, int], float]


def softmax(logits_G: np.ndarray) -> np.ndarray:
    raised_G = np.exp(logits_G - logits_G.max())
    return raised_G / raised_G.sum()


def focal(logits_G: np.ndarray, genre: int) -> float:
    """Lin et al. 2017, equation 4: FL(p_t) = -(1 - p_t)^γ log p_t, here with γ = 2."""
    p_t = softmax(logits_G)[genre]
    return -((1 - p_t) ** 2) * math.log(p_t)


def balanced_softmax(logits_G: np.ndarray, genre: int) -> float:
    """Ren et al. 2020, equation 4: -log of n_y e^{η_y} / Σ_i n_i e^{η_i}."""
    weighted_G = np.array(COUNTS) * np.exp(logits_G)
    return -math.log(weighted_G[genre] / weighted_G.sum())


def logit_adjusted(logits_G: np.ndarray, genre: int) -> float:
    """Menon et al. 2021, equation 10: log(1 + Σ_{y' ≠ y} (π_y' / π_y)^τ e^{f_y' - f_y}), here with τ = 1.5."""
    prior_G = np.array(COUNTS) / sum(COUNTS)
    others = [
        (prior_G[other] / prior_G[genre]) ** 1.5 * math.exp(logits_G[other] - logits_G[genre])
        for other in range(len(COUNTS))
        if other != genre
    ]
    return math.log1p(sum(others))


def class_balanced(logits_G: np.ndarray, genre: int) -> float:
    """Cui et al. 2019: (1 - β) / (1 - β^n_y) times the loss, the factors scaled to sum to C; here with β = 0.99."""
    # E_n = 1 + β + … + β^(n-1), their equation 2 before it is summed.
    effective_G = np.array([sum(0.99**power for power in range(count)) for count in COUNTS])
    factor_G = 1 / effective_G
    return factor_G[genre] * len(COUNTS) / factor_G.sum() * -math.log(softmax(logits_G)[genre])


FORMULAS: dict[str, tuple[LossConfig, Formula]] = {
    "focal": (LossConfig(kind="focal", gamma=2.0), focal),
    "balanced_softmax": (LossConfig(kind="balanced_softmax"), balanced_softmax),
    "logit_adjusted": (LossConfig(kind="logit_adjusted", tau=1.5), logit_adjusted),
    "effective_number": (LossConfig(beta=0.99), class_balanced),
}


@pytest.mark.parametrize(("config", "formula"), FORMULAS.values(), ids=FORMULAS.keys())
def test_each_loss_is_its_paper_s(config: LossConfig, formula: Formula) -> None:
    random = np.random.default_rng(0)
    logits_BG, genre_B = random.normal(0, 3, (40, 3)), random.integers(0, 3, 40)
    wanted = np.mean([formula(logits_G, genre) for logits_G, genre in zip(logits_BG, genre_B, strict=True)])
    targets_BG = soft_targets(torch.from_numpy(genre_B), 3, 0.0)
    found = Loss(config, COUNTS, CPU)(torch.from_numpy(logits_BG), targets_BG)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize(("config", "formula"), FORMULAS.values(), ids=FORMULAS.keys())
def test_a_soft_target_is_the_mixture_of_its_genres(config: LossConfig, formula: Formula) -> None:
    """As mixup and label smoothing make them."""
    logits_G, share_G = np.array([0.5, -1.0, 2.0]), np.array([0.7, 0.1, 0.2])
    wanted = sum(share * formula(logits_G, genre) for genre, share in enumerate(share_G))
    targets_BG = torch.tensor(share_G, dtype=torch.float32)[None]
    found = Loss(config, COUNTS, CPU)(torch.from_numpy(logits_G)[None], targets_BG)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("config", "counts"),
    [
        (LossConfig(), ()),
        (LossConfig(kind="focal", gamma=0.0), ()),
        (LossConfig(kind="balanced_softmax"), (5, 5, 5)),
        (LossConfig(kind="logit_adjusted", tau=0.0), COUNTS),
        (LossConfig(kind="logit_adjusted"), (1, 1, 1)),
        (LossConfig(beta=0.999), (1, 1, 1)),
        (LossConfig(beta=0.5), (7, 7, 7)),
    ],
)
def test_where_nothing_is_unbalanced_each_is_cross_entropy(config: LossConfig, counts: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    logits_BG, targets_BG = 4 * torch.randn(20, 3), soft_targets(torch.randint(3, (20,)), 3, 0.1)
    torch.testing.assert_close(Loss(config, counts, CPU)(logits_BG, targets_BG), cross_entropy(logits_BG, targets_BG))


def test_tau_of_one_is_balanced_softmax() -> None:
    torch.manual_seed(0)
    logits_BG, targets_BG = 4 * torch.randn(20, 3), soft_targets(torch.randint(3, (20,)), 3, 0.0)
    losses = [Loss(LossConfig(kind=kind), COUNTS, CPU)(logits_BG, targets_BG) for kind in SHIFTING]
    torch.testing.assert_close(*losses)


SHIFTING: Any = ("balanced_softmax", "logit_adjusted")


def test_weighted_cross_entropy_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    logits_BG, genre_B = torch.randn(30, 3), torch.randint(3, (30,))
    weight_G = effective_number_weights(COUNTS, 0.9).float()
    # PyTorch's own mean divides by the weights of the batch; the paper's by its size.
    wanted = nn.functional.cross_entropy(logits_BG, genre_B, weight_G, reduction="sum") / 30
    torch.testing.assert_close(
        Loss(LossConfig(beta=0.9), COUNTS, CPU)(logits_BG, soft_targets(genre_B, 3, 0.0)), wanted
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 0.999999])
def test_weights_sum_to_the_number_of_genres_and_go_from_even_to_inverse(beta: float) -> None:
    weight_G = effective_number_weights(COUNTS, beta)
    assert float(weight_G.sum()) == pytest.approx(3)
    assert weight_G.tolist() == sorted(weight_G.tolist())
    ratio = float(weight_G[2] / weight_G[0])
    if beta == 0.0:
        assert weight_G.tolist() == [1.0, 1.0, 1.0]
    if beta == 0.999999:
        assert ratio == pytest.approx(100, rel=1e-3)
    assert 1 <= ratio <= 100


def test_weights_and_focal_multiply() -> None:
    logits_BG = torch.tensor([[1.0, 0.0, -1.0]])
    weight_G = effective_number_weights(COUNTS, 0.99)
    for genre in range(3):
        targets_BG = soft_targets(torch.tensor([genre]), 3, 0.0)
        plain = Loss(LossConfig(kind="focal"), COUNTS, CPU)(logits_BG, targets_BG)
        both = Loss(LossConfig(kind="focal", beta=0.99), COUNTS, CPU)(logits_BG, targets_BG)
        assert float(both) == pytest.approx(float(plain * weight_G[genre]), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 5.0])
@pytest.mark.parametrize("size", [0.0, 30.0, 1e4])
def test_focal_has_finite_gradients_where_the_answer_is_certain(gamma: float, size: float) -> None:
    for sign in (1, -1):
        logits_BG = torch.tensor([[sign * size, -sign * size]], requires_grad=True)
        loss = Loss(LossConfig(kind="focal", gamma=gamma), (), CPU)(logits_BG, soft_targets(torch.tensor([0]), 2, 0.0))
        loss.backward()
        assert bool(loss.isfinite())
        assert bool(logits_BG.grad.isfinite().all())


def test_bf16_logits_give_a_float32_loss() -> None:
    logits_BG = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.bfloat16)
    for config, _ in FORMULAS.values():
        assert Loss(config, COUNTS, CPU)(logits_BG, soft_targets(torch.tensor([1]), 3, 0.0)).dtype == torch.float32


def test_a_network_without_features_learns_the_balanced_answer() -> None:
    """What these losses are for: the logits that make them least, for clips that tell nothing apart, are even ones."""
    genre_B = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
    targets_BG = soft_targets(genre_B, 3, 0.0)

    def fitted(config: LossConfig) -> torch.Tensor:
        logits_G = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits_G], max_iter=200, line_search_fn="strong_wolfe")
        loss = Loss(config, COUNTS, CPU)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            value = loss(logits_G.expand(len(genre_B), 3), targets_BG)
            value.backward()
            return value

        optimizer.step(closure)
        return torch.softmax(logits_G.detach(), 0)

    natural_G = torch.tensor(COUNTS) / sum(COUNTS)
    torch.testing.assert_close(fitted(LossConfig()), natural_G, atol=1e-3, rtol=0)
    even_G = torch.full((3,), 1 / 3)
    torch.testing.assert_close(fitted(LossConfig(kind="balanced_softmax")), even_G, atol=1e-3, rtol=0)
    torch.testing.assert_close(fitted(LossConfig(kind="logit_adjusted")), even_G, atol=1e-3, rtol=0)
    torch.testing.assert_close(fitted(LossConfig(beta=0.999999)), even_G, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "config", [LossConfig(kind="balanced_softmax"), LossConfig(kind="logit_adjusted"), LossConfig(beta=0.9)]
)
@pytest.mark.parametrize("counts", [(), (3, 0, 1)])
def test_counts_that_are_needed_and_not_there_are_an_error(config: LossConfig, counts: tuple[int, ...]) -> None:
    with pytest.raises(TrainingError, match="needs the number of training clips of each genre"):
        Loss(config, counts, CPU)


@pytest.mark.parametrize(
    "wrong",
    [
        {"beta": 1.0},
        {"beta": -0.1},
        {"gamma": -1.0},
        {"tau": -1.0},
        {"kind": "hinge"},
        {"alpha": 1.0},
        {"kind": "balanced_softmax", "beta": 0.9},
        {"kind": "logit_adjusted", "beta": 0.9},
    ],
)
def test_a_wrong_configuration_is_refused_at_birth(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LossConfig(**wrong)
