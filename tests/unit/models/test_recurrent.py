from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mgc.errors import ConfigError
from mgc.models.architecture import build_model
from mgc.models.blocks import parameter_count
from mgc.models.recurrent import Recurrent, RecurrentConfig, smallest_frames

GALLEGO = RecurrentConfig(dropout=0.3)


def test_the_network_of_paper_b_layer_by_layer() -> None:
    model = Recurrent(GALLEGO, 128, 10)
    assert [type(layer) for layer in model.stages] == [nn.Conv1d, nn.BatchNorm1d, nn.ReLU, nn.MaxPool1d, nn.Dropout] * 3
    convolutions = [layer for layer in model.stages if isinstance(layer, nn.Conv1d)]
    channels = [(layer.in_channels, layer.out_channels) for layer in convolutions]
    assert channels == [(128, 64), (64, 32), (32, 16)]
    assert [layer.kernel_size[0] for layer in convolutions] == [5, 3, 3]
    assert [layer.padding[0] for layer in convolutions] == [2, 1, 1]
    assert (model.lstm.input_size, model.lstm.hidden_size, model.lstm.num_layers) == (16, 64, 2)
    # The paddings keep the frames; each pool halves them.
    assert model.stages.eval()(torch.zeros(1, 128, 130)).shape == (1, 16, 16)


def test_parameters_by_hand() -> None:
    config = RecurrentConfig(filters=(3,), kernels=(5,), paddings=(2,), batch_norm=False, lstm_width=4, lstm_layers=1)
    # Convolution 6 · 5 · 3 + 3; four gates of 3 + 4 inputs and PyTorch's two biases; the output.
    assert parameter_count(Recurrent(config, 6, 2)) == 93 + 4 * (4 * 7 + 8) + 10


def test_the_last_step_has_heard_all_and_the_mean_is_one() -> None:
    torch.manual_seed(0)
    last = Recurrent(GALLEGO, 8, 3).eval()
    mean = Recurrent(replace(GALLEGO, summary="mean"), 8, 3).eval()
    mean.load_state_dict(last.state_dict())
    features_BFT = torch.randn(2, 8, 40)
    with torch.no_grad():
        steps_BSD, _ = last.lstm(last.stages(features_BFT).transpose(1, 2))
        assert steps_BSD.shape == (2, 5, 64)
        torch.testing.assert_close(last.embed(features_BFT), steps_BSD[:, 4])
        torch.testing.assert_close(mean.embed(features_BFT), steps_BSD.mean(dim=1))
        changed_BFT = features_BFT.clone()
        changed_BFT[:, :, 0] += 10
        assert not torch.equal(last.embed(changed_BFT), last.embed(features_BFT))


@pytest.mark.parametrize(
    ("config", "frames"),
    [
        (GALLEGO, 8),
        (replace(GALLEGO, pool=1), 1),
        (replace(GALLEGO, paddings=(0, 0, 0)), 24),
        (replace(GALLEGO, pool=3, paddings=(2, 0, 1)), 33),
    ],
)
def test_too_few_frames_are_one_clear_line(config: RecurrentConfig, frames: int) -> None:
    assert smallest_frames(config) == frames
    assert build_model(config, (8, frames), 3)(torch.randn(2, 8, frames)).shape == (2, 3)
    if frames > 1:
        with pytest.raises((RuntimeError, ValueError)):
            Recurrent(config, 8, 3)(torch.randn(2, 8, frames - 1))
    message = (
        f"model recurrent needs at least 1 bins and {frames} frames, but the front end gives 8 bins and {frames - 1} "
    )
    with pytest.raises(ConfigError, match=message):
        build_model(config, (8, frames - 1), 3)
