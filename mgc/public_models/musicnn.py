"""Weights of musicnn's networks, trained on the Million Song Dataset and on MagnaTagATune.

They are part of the package musicnn on PyPI: J. Pons and X. Serra, 2019. That package needs TensorFlow 1, so mgc reads
the checkpoints inside the wheel.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mgc.errors import BundleError
from mgc.public_models.tensorflow_checkpoint import read_checkpoint

Training = Literal["MSD", "MTT"]
"""What the network was trained on: the Million Song Dataset, or MagnaTagATune."""

TAGS: Final = 50
"""Tags of each network, in the order of the logits."""

BINS: Final = 96

_CONVOLUTIONS: Final = (
    *(f"timbres.{number}.convolution" for number in range(2)),
    *(f"rhythms.{number}.convolution" for number in range(3)),
    *(f"middle.{number}.convolution" for number in range(3)),
)
_OVER_TIME: Final = 3
"""The last convolutions are over time alone."""

_NORMALIZATIONS: Final = (
    "input",
    *(name.replace("convolution", "normalization") for name in _CONVOLUTIONS),
    "hidden.0",
    "hidden.4",
)
_DENSE: Final = ("hidden.2", "head")
_PARTS: Final = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def read_musicnn(wheel: bytes, training: Training, where: str) -> dict[str, torch.Tensor]:
    """Return the weights of a published network under the names of `mgc.models.musicnn.Musicnn`.

    Args:
        wheel: bytes of the wheel.
        training: what the network was trained on.
        where: name of the wheel, for the message.

    Raises:
        BundleError: this is not that wheel.
    """
    folder = f"musicnn/{training}_musicnn"
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as files:
            index, data = files.read(f"{folder}/.index"), files.read(f"{folder}/.data-00000-of-00001")
        variables = read_checkpoint(index, data)
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in _rename(variables)}
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError) as error:
        raise BundleError(f"{where}: this is not the wheel of musicnn ({error}); fetch it anew.") from None


def _rename(variables: dict[str, NDArray[np.float32]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for number, name in enumerate(_NORMALIZATIONS):
        for part, theirs in _PARTS.items():
            yield f"{name}.{part}", variables[f"{_numbered('batch_normalization', number)}/{theirs}"]
        yield f"{name}.num_batches_tracked", np.zeros((), np.int64)
    for number, name in enumerate(_CONVOLUTIONS):
        theirs = _numbered("conv2d", number)
        # TensorFlow's axes are height (time), width (frequency or channels), in, out.
        kernel = variables[f"{theirs}/kernel"]
        over_time = number >= len(_CONVOLUTIONS) - _OVER_TIME
        yield f"{name}.weight", kernel[:, :, 0].transpose(2, 1, 0) if over_time else kernel.transpose(3, 2, 1, 0)
        yield f"{name}.bias", variables[f"{theirs}/bias"]
    for number, name in enumerate(_DENSE):
        theirs = _numbered("dense", number)
        yield f"{name}.weight", variables[f"{theirs}/kernel"].T
        yield f"{name}.bias", variables[f"{theirs}/bias"]


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name
