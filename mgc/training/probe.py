"""Train a head on embeddings of tracks: class-balanced, with a chosen regularisation and a calibrated confidence.

Both choices come from cross-fitting over artists: each track is answered by a head that was trained on the tracks of
other artists. The strength of the regularisation and the temperature of the softmax (Guo, Pleiss, Sun and Weinberger,
ICML 2017) are those with the least loss over these answers.

Axes: N tracks, D numbers of an embedding, G genres, L strengths.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mgc.errors import TrainingError
from mgc.models.probe import build_head

STRENGTHS: Final = (1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the regularisation that are tried: the C of scikit-learn, the strongest regularisation first."""

TEMPERATURES: Final = tuple(np.geomspace(0.05, 20.0, 61).tolist())

MOST_FOLDS: Final = 5
FEWEST_TRACKS: Final = 2
"""A genre of fewer tracks cannot be scored: it is missing wherever it is asked for."""

CURVE_SHARES: Final = (0.25, 0.5)
"""Shares of the training tracks of a learning curve, before all of them."""

ABSENT: Final = -30.0
"""Logit of a genre that no training track of a fold has."""

_MOST_STEPS: Final = 100
_TOLERANCE: Final = 1e-3
"""Of the linear head, for each strength."""

_STEPS: Final = 200
_LEARNING_RATE: Final = 3e-3

Numbers = NDArray[np.float64]
Fitted = Callable[[NDArray[np.float32]], Numbers]


@dataclass(frozen=True, eq=False)
class CrossFit:
    """The answers of heads for tracks of artists that they were not trained on.

    Attributes:
        logits_NG: calibrated logits, one row a track. A track's own fold had no part in choosing its strength and
            temperature.
        fold_N: fold of each track.
        answerable_N: whether other folds have tracks of its genre. If not, no head could have answered it right, and it
            had no part in the choices.
        strength: strength with the least loss over all tracks.
        temperature: temperature with the least loss at that strength; logits are divided by it.
    """

    logits_NG: Numbers  # noqa: N815  (axes in capitals)
    fold_N: NDArray[np.int64]  # noqa: N815
    answerable_N: NDArray[np.bool_]  # noqa: N815
    strength: float
    temperature: float


def divide(genre_N: NDArray[np.int64], group_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return a fold for each track: genres spread evenly, no group in two folds.

    Args:
        genre_N: genre of each track.
        group_N: group (artist) of each track.
        seed: seed of the division.

    Raises:
        TrainingError: there are fewer than two groups, or no genre has two tracks.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups, tracks = len(np.unique(group_N)), int(np.bincount(genre_N).max())
    folds = min(MOST_FOLDS, groups, tracks)
    if groups < 2:
        raise TrainingError("probe: all tracks are by one artist, so no score can be honest; add tracks of others.")
    if tracks < 2:
        raise TrainingError("probe: no genre has two tracks, so nothing can be scored; add tracks.")
    fold_N = np.zeros(len(genre_N), np.int64)
    with warnings.catch_warnings():
        # It warns of genres with fewer tracks than folds; the caller says so in its own words.
        warnings.simplefilter("ignore", UserWarning)
        splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(genre_N, genre_N, group_N)
        for fold, (_, held) in enumerate(splits):
            fold_N[held] = fold
    return fold_N


def cross_fit(
    embedding_ND: NDArray[np.float32],
    genre_N: NDArray[np.int64],
    group_N: NDArray[np.int64],
    genres: int,
    hidden: int = 0,
    seed: int = 0,
) -> CrossFit:
    """Answer each track by a head that was trained on other artists' tracks.

    Args:
        embedding_ND: embeddings.
        genre_N: true genres, 0 to G-1.
        group_N: groups (artists).
        genres: number of genres.
        hidden: units of a hidden layer; 0 for a linear head.
        seed: seed of the division, and of a hidden layer's weights.

    Raises:
        TrainingError: there are fewer than two genres or groups, or no genre has two tracks.
    """
    if genres < 2:
        raise TrainingError(
            "probe: there is only one genre, so there is nothing to tell apart; label tracks of others."
        )
    fold_N = divide(genre_N, group_N, seed)
    logits_LNG = np.empty((len(STRENGTHS), len(genre_N), genres))
    for fold in range(int(fold_N.max()) + 1):
        inside_N = fold_N != fold
        for place, fitted in enumerate(_fit_path(embedding_ND[inside_N], genre_N[inside_N], genres, hidden, seed)):
            logits_LNG[place, ~inside_N] = fitted(embedding_ND[~inside_N])
    answerable_N = _find_answerable(genre_N, fold_N)
    calibrated_NG = np.empty((len(genre_N), genres))
    for fold in range(int(fold_N.max()) + 1):
        others_N = fold_N != fold
        known_N = others_N & answerable_N
        place, temperature = _choose(logits_LNG[:, known_N], genre_N[known_N])
        calibrated_NG[~others_N] = logits_LNG[place, ~others_N] / temperature
    place, temperature = _choose(logits_LNG[:, answerable_N], genre_N[answerable_N])
    return CrossFit(calibrated_NG, fold_N, answerable_N, STRENGTHS[place], temperature)


def _find_answerable(genre_N: NDArray[np.int64], fold_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each track whether another fold has tracks of its genre."""
    counts_GF = np.zeros((genre_N.max() + 1, fold_N.max() + 1), np.int64)
    np.add.at(counts_GF, (genre_N, fold_N), 1)
    answerable_N: NDArray[np.bool_] = counts_GF.sum(axis=1)[genre_N] > counts_GF[genre_N, fold_N]
    return answerable_N


def train_head(
    embedding_ND: NDArray[np.float32],
    genre_N: NDArray[np.int64],
    genres: int,
    chosen: CrossFit,
    hidden: int = 0,
    seed: int = 0,
) -> nn.Module:
    """Return a head of `build_head`, trained on all tracks, with calibrated logits.

    Args:
        embedding_ND: embeddings.
        genre_N: true genres; each of 0 to G-1 occurs.
        genres: number of genres.
        chosen: strength and temperature.
        hidden: as for `cross_fit`.
        seed: as for `cross_fit`.
    """
    scaled_ND, offset_D, scale_D = (torch.from_numpy(numbers) for numbers in _standardize(embedding_ND))
    if hidden:
        head: nn.Module = _fit_hidden(scaled_ND.numpy(), genre_N, genres, hidden, chosen.strength, seed)
    else:
        *_, (weights_GD, bias_G) = _fit_linear(scaled_ND.numpy(), genre_N, genres, _path_to(chosen.strength))
        head = nn.utils.skip_init(nn.Linear, embedding_ND.shape[1], genres)
        head.load_state_dict({"weight": torch.from_numpy(weights_GD), "bias": torch.from_numpy(bias_G)})
    first, last = _ends(head)
    with torch.no_grad():
        # The embedding's offset and scale become part of the first layer, the temperature of the last.
        first.weight.div_(scale_D)
        first.bias.sub_(first.weight @ offset_D)
        last.weight.div_(chosen.temperature)
        last.bias.div_(chosen.temperature)
    return head.eval().requires_grad_(False)


def _ends(head: nn.Module) -> tuple[nn.Linear, nn.Linear]:
    """Return the first and the last layer of a head."""
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    return layers[0], layers[-1]


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """Answers of heads that were trained on a part of the tracks.

    Attributes:
        labels_G: training tracks of each genre, on average over the folds.
        logits_NG: logits, one row a track, of heads that were trained on other artists' tracks.
    """

    labels_G: Numbers  # noqa: N815
    logits_NG: Numbers  # noqa: N815


def learning_curve(
    embedding_ND: NDArray[np.float32],
    genre_N: NDArray[np.int64],
    chosen: CrossFit,
    genres: int,
    hidden: int = 0,
    seed: int = 0,
) -> tuple[CurvePoint, ...]:
    """Answer each track by heads that were trained on a quarter, a half, and all of the other folds' tracks.

    Args:
        embedding_ND: embeddings.
        genre_N: true genres.
        chosen: folds and strength, and the answers of heads that had all tracks.
        genres: number of genres.
        hidden: as for `cross_fit`.
        seed: seed of the parts.
    """
    order_N = np.random.default_rng(seed).permutation(len(genre_N))
    points = []
    for share in CURVE_SHARES:
        logits_NG, labels_FG = np.empty((len(genre_N), genres)), []
        for fold in range(int(chosen.fold_N.max()) + 1):
            inside_N = chosen.fold_N != fold
            kept = _part(order_N[inside_N[order_N]], genre_N, genres, share)
            labels_FG.append(np.bincount(genre_N[kept], minlength=genres))
            path = _fit_path(embedding_ND[kept], genre_N[kept], genres, hidden, seed, _path_to(chosen.strength))
            logits_NG[~inside_N] = path[-1](embedding_ND[~inside_N])
        points.append(CurvePoint(np.mean(labels_FG, axis=0), logits_NG))
    folds = range(int(chosen.fold_N.max()) + 1)
    all_FG = [np.bincount(genre_N[chosen.fold_N != fold], minlength=genres) for fold in folds]
    return (*points, CurvePoint(np.mean(all_FG, axis=0), chosen.logits_NG))


def _part(places: NDArray[np.int64], genre_N: NDArray[np.int64], genres: int, share: float) -> NDArray[np.int64]:
    """Return a share of the tracks of each genre, at least one."""
    found = []
    for genre in range(genres):
        own = places[genre_N[places] == genre]
        found.append(own[: max(1, round(share * len(own)))])
    return np.concatenate(found)


def _path_to(strength: float) -> Sequence[float]:
    """Return the strengths up to this one: the same steps as in cross-fitting."""
    return [each for each in STRENGTHS if each <= strength]


def _fit_path(
    embedding_ND: NDArray[np.float32],
    genre_N: NDArray[np.int64],
    genres: int,
    hidden: int,
    seed: int,
    strengths: Sequence[float] = STRENGTHS,
) -> list[Fitted]:
    """Return a head for each strength, as a function from embeddings to logits of all genres."""
    scaled_ND, offset_D, scale_D = _standardize(embedding_ND)
    # A fold may lack a genre. Its head then has fewer outputs.
    present, index_N = np.unique(genre_N, return_inverse=True)

    def complete(logits_NP: NDArray[np.floating]) -> Numbers:
        logits_NG = np.full((len(logits_NP), genres), ABSENT)
        logits_NG[:, present] = logits_NP
        return logits_NG

    def linear(weights_PD: NDArray[np.float32], bias_P: NDArray[np.float32]) -> Fitted:
        return lambda other_ND: complete(((other_ND - offset_D) / scale_D) @ weights_PD.T.astype(np.float64) + bias_P)

    def layers(head: nn.Module) -> Fitted:
        @torch.inference_mode()
        def answer(other_ND: NDArray[np.float32]) -> Numbers:
            return complete(head(torch.from_numpy((other_ND - offset_D) / scale_D)).double().numpy())

        return answer

    if len(present) == 1:
        # All that such a fold can teach is to answer that genre, with Laplace's confidence: (n + 1) / (n + 2).
        logits_G = np.full(genres, -np.log((len(genre_N) + 1) * (genres - 1)))
        logits_G[present] = 0.0
        return [lambda other_ND: np.tile(logits_G, (len(other_ND), 1))] * len(strengths)
    if hidden:
        return [layers(_fit_hidden(scaled_ND, index_N, len(present), hidden, strength, seed)) for strength in strengths]
    path = _fit_linear(scaled_ND, index_N, len(present), strengths)
    return [linear(weights_PD, bias_P) for weights_PD, bias_P in path]


def _standardize(
    embedding_ND: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return numbers with mean 0 and deviation 1, and the offset and scale of each; a constant number becomes 0."""
    offset_D = embedding_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale_D = embedding_ND.std(axis=0, dtype=np.float64).astype(np.float32)
    scale_D[scale_D == 0] = 1.0
    return (embedding_ND - offset_D) / scale_D, offset_D, scale_D


def _fit_linear(
    scaled_ND: NDArray[np.float32], genre_N: NDArray[np.int64], genres: int, strengths: Sequence[float]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield weights (G, D) and biases (G,) of logistic regressions with balanced classes, each begun at the last."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(class_weight="balanced", max_iter=_MOST_STEPS, tol=_TOLERANCE, warm_start=True)
    for strength in strengths:
        model.set_params(C=strength)
        with warnings.catch_warnings():
            # Where genres can be separated, the weakest regularisation takes long, and more steps change no answer.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled_ND, genre_N)
        weights_GD, bias_G = model.coef_.astype(np.float32), model.intercept_.astype(np.float32)
        if genres == 2:
            # For two classes, scikit-learn keeps the difference of their logits only.
            weights_GD, bias_G = np.concatenate([-weights_GD, weights_GD]) / 2, np.concatenate([-bias_G, bias_G]) / 2
        yield weights_GD, bias_G


def _fit_hidden(
    scaled_ND: NDArray[np.float32], genre_N: NDArray[np.int64], genres: int, hidden: int, strength: float, seed: int
) -> nn.Sequential:
    """Return a head with a hidden layer, trained on all tracks at once by AdamW with balanced classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = build_head(scaled_ND.shape[1], hidden, genres)
    assert isinstance(head, nn.Sequential)
    counts_G = np.bincount(genre_N, minlength=genres)
    weights_G = torch.from_numpy((len(genre_N) / (genres * counts_G)).astype(np.float32))
    features_ND, truth_N = torch.from_numpy(scaled_ND), torch.from_numpy(genre_N)
    # The same objective as that of the linear head: a mean loss, and a penalty of 1 / (C N) for the squared weights.
    optimizer = torch.optim.AdamW(head.parameters(), _LEARNING_RATE, weight_decay=1 / (strength * len(genre_N)))
    for _ in range(_STEPS):
        loss = nn.functional.cross_entropy(head(features_ND), truth_N, weights_G)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()


def _choose(logits_LNG: Numbers, genre_N: NDArray[np.int64]) -> tuple[int, float]:
    """Return the place of the best strength, and its temperature.

    The temperature has the least loss over tracks of equal weight, because confidence is about tracks. The strength has
    the least loss over genres of equal weight. Where there is no track to choose by, they are the strongest
    regularisation and 1.
    """
    if not len(genre_N):
        return 0, 1.0
    counts_G = np.bincount(genre_N, minlength=logits_LNG.shape[2])
    balanced_N = 1 / counts_G[genre_N]
    best: tuple[float, int, float] | None = None
    for place, logits_NG in enumerate(logits_LNG):
        losses = _cautious_losses(logits_NG, genre_N)
        # Of those that are as good, where all answers are alike, the nearest to 1.
        temperature, _ = min(losses.items(), key=lambda item: (round(item[1], 9), abs(np.log(item[0]))))
        losses_N = _log_sums(logits_NG / temperature) - logits_NG[np.arange(len(genre_N)), genre_N] / temperature
        loss = float(np.average(losses_N, weights=balanced_N))
        if best is None or loss < best[0]:
            best = loss, place, temperature
    assert best is not None
    return best[1:]


def _cautious_losses(logits_NG: Numbers, genre_N: NDArray[np.int64]) -> dict[float, float]:
    """Return the mean cross-entropy by temperature: over the tracks, one more like them, and one that is a runner-up.

    Where all answers are right, confidence so stays at about (N + 1) / (N + 2), by Laplace's rule of succession: ten
    tracks do not tell answers that are always right from those that are wrong once in twenty times.
    """
    count = len(genre_N)
    true_N, others_NG = logits_NG[np.arange(count), genre_N], logits_NG.copy()
    others_NG[np.arange(count), genre_N] = -np.inf
    # The logits that the losses are about, as one number: a loss is the logarithm of all exponentials less its logit.
    wanted = float(((count + 1) * true_N.mean() + others_NG.max(axis=1).mean()) / (count + 2))
    return {each: float(_log_sums(logits_NG / each).mean()) - wanted / each for each in TEMPERATURES}


def _log_sums(logits_NG: Numbers) -> Numbers:
    """Return the logarithm of the sum of a track's exponentials."""
    highest_N1 = logits_NG.max(axis=1, keepdims=True)
    sums_N: Numbers = np.log(np.exp(logits_NG - highest_N1).sum(axis=1)) + highest_N1[:, 0]
    return sums_N
