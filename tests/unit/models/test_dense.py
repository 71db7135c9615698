from __future__ import annotations

import torch
from torch import nn

from mgc.models.blocks import parameter_count
from mgc.models.dense import Dense, DenseConfig


def test_layers_in_order() -> None:
    model = Dense(DenseConfig(hidden=(6, 5), batch_norm=True, dropout=0.3), (4, 3), 2)
    assert [type(layer) for layer in model.hidden] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout] * 2
    assert parameter_count(model) == (12 * 6 + 6 + 12) + (30 + 5 + 10) + (10 + 2)
    plain = Dense(DenseConfig(hidden=(6,)), (12,), 2)
    assert [type(layer) for layer in plain.hidden] == [nn.Linear, nn.ReLU]


def test_no_hidden_layer_is_a_linear_model() -> None:
    model = Dense(DenseConfig(hidden=()), (4, 3), 2)
    features_BFT = torch.randn(5, 4, 3)
    torch.testing.assert_close(model(features_BFT), features_BFT.reshape(5, 12) @ model.head.weight.T)
    assert parameter_count(model) == 26


def test_one_layer_by_hand() -> None:
    model = Dense(DenseConfig(hidden=(2,)), (2,), 1)
    with torch.no_grad():
        model.hidden[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
        model.hidden[0].bias.copy_(torch.tensor([0.5, 0.25]))
        model.head.weight.copy_(torch.tensor([[2.0, 4.0]]))
    features_BF = torch.tensor([[1.0, 3.0], [-1.0, 0.0]])
    assert model.embed(features_BF).tolist() == [[7.5, 0.0], [0.0, 1.25]]
    assert model(features_BF).tolist() == [[15.0], [5.0]]


def test_means_over_time() -> None:
    model = Dense(DenseConfig(hidden=(), mean_over_time=True), (4, 3), 2)
    features_BFT = torch.randn(5, 4, 3)
    torch.testing.assert_close(model(features_BFT), features_BFT.mean(2) @ model.head.weight.T)
    assert parameter_count(model) == 10


def test_initial_weights() -> None:
    torch.manual_seed(0)
    bound = (6 / (50 + 40)) ** 0.5
    xavier = Dense(DenseConfig(hidden=(40,)), (50,), 3)
    assert 0.9 * bound < float(xavier.hidden[0].weight.detach().abs().max()) <= bound
    assert not xavier.hidden[0].bias.any()
    assert Dense(DenseConfig(hidden=(40,), init="torch"), (50,), 3).hidden[0].bias.any()
