"""Weights of EfficientAT's MobileNets, trained on AudioSet.

The files are assets of the releases of github.com/fschmid56/EfficientAT: F. Schmid, K. Koutini and G. Widmer, ICASSP
2023. Each is a dictionary of tensors, in the order of the layers.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Final

import torch

from mgc.errors import BundleError
from mgc.models.mobilenet import MobileNet, MobileNetConfig

CLASSES: Final = 527
"""Classes of AudioSet, in the order of the logits."""

_ARCHIVE: Final = b"PK\x03\x04"
"""First bytes of a file that `torch.save` writes."""


def read_efficientat(data: bytes, width: float, where: str) -> dict[str, torch.Tensor]:
    """Return the weights of a published MobileNet under the names of `MobileNet`.

    Args:
        data: bytes of the published file. Nothing but tensors is unpickled.
        width: width of the network.
        where: name of the file, for the message.

    Raises:
        BundleError: the file does not hold the tensors of such a network.
    """
    try:
        # Older files of PyTorch are bare pickles; the published ones are archives.
        if not data.startswith(_ARCHIVE):
            raise ValueError("it is no archive")
        published = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BundleError(f"{where}: this file holds more than tensors, and is not read; fetch it anew.") from None
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:80].rstrip(".")
        raise BundleError(f"{where}: this is no file of PyTorch tensors ({reason}); fetch it anew.") from None
    with torch.device("meta"):
        own = MobileNet(MobileNetConfig(width=width), CLASSES).state_dict()
    if not isinstance(published, dict) or len(published) != len(own):
        raise BundleError(f"{where}: this is no MobileNet of EfficientAT; name the file of the release.")
    weights: dict[str, torch.Tensor] = {}
    for (name, expected), (other, tensor) in zip(own.items(), published.items(), strict=True):
        if not isinstance(tensor, torch.Tensor) or tensor.shape != expected.shape:
            raise BundleError(f"{where}: {other} does not fit a MobileNet of width {width:g}; name that width's file.")
        weights[name] = tensor.detach().clone()
    return weights
