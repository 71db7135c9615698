from __future__ import annotations

import pytest
import torch
from torch import nn

from mgc.training.losses import cross_entropy, l2_penalty, soft_targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_that_of_pytorch(smoothing: float) -> None:
    torch.manual_seed(0)
    logits_BG, genre_B = 5 * torch.randn(32, 7), torch.randint(7, (32,))
    found = cross_entropy(logits_BG, soft_targets(genre_B, 7, smoothing))
    wanted = nn.functional.cross_entropy(logits_BG, genre_B, label_smoothing=smoothing)
    torch.testing.assert_close(found, wanted)


def test_targets_by_hand() -> None:
    targets_BG = soft_targets(torch.tensor([2, 0]), 4, 0.2)
    torch.testing.assert_close(targets_BG, torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]))


def test_the_loss_of_bf16_logits_is_float32() -> None:
    logits_BG = torch.tensor([[1.0, -1.0]], dtype=torch.bfloat16)
    loss = cross_entropy(logits_BG, soft_targets(torch.tensor([0]), 2, 0.0))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.tensor(0.126928), atol=1e-6, rtol=0)


def test_large_logits_do_not_overflow() -> None:
    loss = cross_entropy(torch.tensor([[1e4, -1e4]]), soft_targets(torch.tensor([1]), 2, 0.0))
    assert float(loss) == pytest.approx(2e4)


def test_l2_by_hand_leaves_biases_and_normalisation_out() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.BatchNorm2d(1), nn.Linear(3, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(10.0)
        model[0].weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
        model[2].weight.copy_(torch.tensor([[0.5, -0.5, 1.0]]))
    penalty = l2_penalty(model)
    assert penalty.item() == pytest.approx(30 + 1.5)
    penalty.backward()
    torch.testing.assert_close(model[2].weight.grad, 2 * model[2].weight.detach())
    assert model[0].bias.grad is None
    # Biases of 10 on the convolution and on the dense layer; those of the normalisation stay out.
    assert l2_penalty(model, biases=True).item() == pytest.approx(30 + 1.5 + 100 + 100)


def test_l2_of_a_model_without_weights_is_zero() -> None:
    assert l2_penalty(nn.ReLU()).item() == 0.0
