"""Parts that the architectures share.

Axes: B batch, C channels, F mel bins, T frames, D embedding, G genres, S sounds.
"""

from __future__ import annotations

import abc
import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, Self

import torch
from pydantic import Field
from torch import nn

from mgc.errors import ConfigError

Init = Literal["xavier", "torch"]
"""Initialisation of weights, see `initialise`."""

Normalized = Literal["batch", "group"]
"""Normalisation of maps, see `normalization_layer`."""

Width = Annotated[int, Field(ge=1, le=4096)]
"""Filters of a convolution, or units of a dense or recurrent layer."""

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
"""Share of activations that dropout zeroes in training."""

HEAD: Final = "head."
"""Prefix of the names of the head's weights."""


class Classifier(nn.Module, abc.ABC):
    """A network from normalised features to logits.

    `forward` takes normalised float32 features of a batch of clips: (B, numbers), (B, bins, frames) or (B, height,
    width, colours), as the architecture requires. It returns `logits_BG`. `embed` returns the input of the last layer,
    `embedding_BD`, for similarity and t-SNE. Both are float32, or bfloat16 under autocast.

    Attributes:
        head: output layer or layers, with exactly the parameters that `classify` uses. Re-training the classifier (Kang
            et al. 2020) trains only these, on embeddings from evaluation mode. A guess has none.
    """

    head: nn.Module
    _embedding_is_frozen: bool = False
    _frozen: tuple[str, ...] = ()

    @abc.abstractmethod
    def embed(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return penultimate activations (B, D)."""

    @abc.abstractmethod
    def classify(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, G) of an embedding."""

    def name_sounds(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, S) of sounds that the network knows besides; S is 0 for all but some probes."""
        return embedding_BD.new_empty(len(embedding_BD), 0)

    def forward(self, features_BFT: torch.Tensor) -> torch.Tensor:
        """Return logits (B, G)."""
        return self.classify(self.embed(features_BFT))

    def ears(self) -> dict[str, torch.Tensor]:
        """Return the weights that determine the embedding: all but the head's."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith(HEAD)}

    def keep_embedding(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Load and freeze all weights but the head's, so that only the head is trained.

        The frozen part stays in evaluation mode: running statistics do not change, and there is no dropout before the
        head.

        Args:
            weights: state of a trained network of this architecture.
        """
        own = {name: tensor for name, tensor in self.state_dict().items() if name.startswith(HEAD)}
        self.load_state_dict({**weights, **own})
        self._embedding_is_frozen = True
        self.requires_grad_(False)
        self.head.requires_grad_(True)
        self.train(self.training)

    def freeze(self, layers: Iterable[str]) -> None:
        """Leave some layers as they are while the others are trained; their running statistics do not change either.

        Args:
            layers: names of the layers, as in `nn.Module.get_submodule`.
        """
        # Names, because training may put another normalisation in the place of a layer.
        self._frozen = tuple(layers)
        for name in self._frozen:
            self.get_submodule(name).requires_grad_(False)
        self.train(self.training)

    def start_from(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Load the weights of another training, to train on from there.

        The head is loaded only if it is among the weights and its shape is the same. With other features in front of a
        head that keeps bins apart, it stays untrained. The caller leaves out a head of other genres.

        Args:
            weights: state of a trained network.

        Raises:
            ConfigError: the weights below the head are of another network.
        """
        own = self.state_dict()
        fits = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
        strange = sorted(name for name in own.keys() | weights.keys() if name not in fits and not name.startswith(HEAD))
        if strange:
            raise ConfigError(
                f"start: these weights are of another network ({strange[0]} does not fit); give the model the fields "
                "of the bundle to start from."
            )
        heads = [name for name in own if name.startswith(HEAD)]
        if not all(name in fits for name in heads):
            fits = {name: tensor for name, tensor in fits.items() if name not in heads}
        self.load_state_dict({**own, **fits})

    def train(self, mode: bool = True) -> Self:
        """Set the mode as for any module; what is frozen stays in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            self.get_submodule(name).train(False)
        if self._embedding_is_frozen:
            for child in self.children():
                child.train(mode and child is self.head)
        return self


def normalization_layer(normalization: Normalized, channels: int) -> nn.Module:
    """Return a layer that normalises maps (B, C, F, T), with a scale and an offset for each channel."""
    if normalization == "batch":
        return nn.BatchNorm2d(channels)
    # Groups of 16 channels, the best of Wu and He (2018), or as many as divide them evenly.
    return nn.GroupNorm(channels // math.gcd(channels, 16), channels)


class ConvNormRelu(nn.Sequential):
    """Convolution without bias, normalisation, ReLU; 'same' padding for odd kernels."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 3,
        stride: int = 1,
        normalization: Normalized = "batch",
    ) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
            normalization_layer(normalization, channels_out),
            nn.ReLU(inplace=True),
        )


class MeanMaxPool(nn.Module):
    """Global pooling over frequency and time: mean and maximum side by side, (B, C, F, T) → (B, 2C).

    Args:
        keep_bins: pool over time only, (B, C, F, T) → (B, 2CF).
    """

    def __init__(self, keep_bins: bool = False) -> None:
        super().__init__()
        self._axes = (3,) if keep_bins else (2, 3)

    def forward(self, maps_BCFT: torch.Tensor) -> torch.Tensor:
        """Return pooled maps (B, 2C) or (B, 2CF)."""
        pooled = torch.cat([maps_BCFT.mean(dim=self._axes), maps_BCFT.amax(dim=self._axes)], dim=1)
        return pooled.flatten(1)


def initialise(model: nn.Module, init: Init) -> None:
    """Draw new weights for convolutions and dense layers from torch's global generator.

    Args:
        model: network to initialise.
        init: `xavier`, Keras' default: uniform within ± sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010), biases
            zero; `torch` keeps PyTorch's own.
    """
    if init == "torch":
        return
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def plain_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return contiguous copies on the CPU in the order of their names, whatever their device and memory layout."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(weights.items())}


def digest_weights(weights: Mapping[str, torch.Tensor]) -> str:
    """Return a SHA-256 of names, types, shapes and numbers: of the weights, not of how a library writes them."""
    digest = hashlib.sha256()
    for name, tensor in plain_weights(weights).items():
        digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)}:".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cosine_transform(size: int, coefficients: int) -> torch.Tensor:
    """Return the orthonormal discrete cosine transform of type II: float32 of shape (size, coefficients)."""
    # On the device `meta`, `torch.arange` imports the compiler of PyTorch; see `load_model`.
    place_M1 = torch.arange(size, dtype=torch.float64, device="cpu").unsqueeze(1) + 0.5
    order_K = torch.arange(coefficients, dtype=torch.float64, device="cpu")
    dct_MK = torch.cos(math.pi / size * place_M1 * order_K) * math.sqrt(2 / size)
    dct_MK[:, 0] = math.sqrt(1 / size)
    return dct_MK.float()
