"""Cut a window into clips of equal length. Shared by the front ends that work on clips.

C: clips, T: samples in time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Final, Self

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.audio.waveform import Waveform
from mgc.configuration import STRICT, JsonObject, to_json
from mgc.features.clips import Clips, Dtype

_CLIPS_AT_ONCE: Final = 16
"""Clips computed together. This limits the memory that a long window takes."""


@dataclass(frozen=True, config=STRICT)
class ClipConfig:
    """How a window is resampled and cut into consecutive clips of `clip_seconds`.

    A remainder of at least half a clip is padded with silence; a shorter one is dropped. A window shorter than a clip
    becomes one padded clip.

    Attributes:
        kind: name of the front end.
        sample_rate_hz: sample rate after resampling (soxr, HQ).
        clip_seconds: length of a clip.
    """

    kind: str
    sample_rate_hz: int = Field(default=22050, ge=4000, le=192_000)
    clip_seconds: float = Field(default=3.0, ge=0.1, le=600.0)

    @property
    def clip_samples(self) -> int:
        """Length of a clip in samples."""
        return round(self.clip_seconds * self.sample_rate_hz)

    def identity(self) -> JsonObject:
        """Return the JSON-ready values that the features' id is made of: equal if the numbers must be equal."""
        return to_json(self) | {"clip_seconds": self.clip_samples / self.sample_rate_hz}


@dataclass(frozen=True, config=STRICT)
class FramedConfig(ClipConfig):
    """Clips divided into frames, of which the middle ones are kept. The first and last frames are padded with zeros.

    Attributes:
        hop_length: samples from one frame to the next.
        frames: frames kept of each clip, 1 + clip length / hop at most (130 of 3 s with the defaults).
    """

    hop_length: int = Field(default=512, ge=16, le=16384)
    frames: int = Field(default=128, ge=1)

    @model_validator(mode="after")
    def _frames_fit(self) -> Self:
        if self.frames > self.all_frames:
            raise ValueError(f"frames {self.frames}: a clip of {self.clip_seconds:g} s has only {self.all_frames}")
        return self

    @property
    def all_frames(self) -> int:
        """Number of frames in a whole clip."""
        return 1 + self.clip_samples // self.hop_length


def resample(window: Waveform, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the samples of a window at another rate (soxr, HQ); at its own rate, the window's own samples."""
    if window.sample_rate_hz == sample_rate_hz:
        return window.samples
    samples_T: NDArray[np.float32] = soxr.resample(window.samples, window.sample_rate_hz, sample_rate_hz, quality="HQ")
    return samples_T


class Cutter:
    """Cuts a window into clips, and out of each clip the stretch that its features need."""

    def __init__(
        self, config: ClipConfig, first_sample: int, samples: int, *, across: bool = False, overlap: bool = False
    ) -> None:
        """Cut `samples` samples from `first_sample` on out of each clip; they may reach beyond the clip.

        Args:
            config: how the window is cut into clips.
            first_sample: place of the stretch in the clip.
            samples: length of the stretch.
            across: whether the samples beyond the clip are those of its neighbours in the window. Otherwise, and beyond
                the window, they are zeros.
            overlap: whether a last clip that would be padded begins earlier instead, so that it ends with the window.
        """
        self._config, self._first_sample, self._samples = config, first_sample, samples
        self._across, self._overlap = across, overlap

    @classmethod
    def of_clips(cls, config: ClipConfig, *, overlap: bool = False) -> Cutter:
        """Return a cutter of whole clips."""
        return cls(config, 0, config.clip_samples, overlap=overlap)

    @classmethod
    def of_frames(
        cls, config: FramedConfig, frame_length: int, *, across: bool = False, overlap: bool = False
    ) -> Cutter:
        """Return a cutter of what the kept frames need: frame x begins at sample x · hop_length of the stretch."""
        first_frame = (config.all_frames - config.frames) // 2
        first_sample = first_frame * config.hop_length - frame_length // 2
        samples = (config.frames - 1) * config.hop_length + frame_length
        return cls(config, first_sample, samples, across=across, overlap=overlap)

    def __call__(self, window: Waveform) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return samples of shape (clips, samples) and the start of each clip in seconds."""
        config = self._config
        mono_T = resample(window, config.sample_rate_hz)
        size = config.clip_samples
        whole, rest = divmod(len(mono_T), size)
        clips = max(1, whole + (2 * rest >= size))
        begins_C = size * np.arange(clips)
        if self._overlap and len(mono_T) >= size:
            begins_C[-1] = min(begins_C[-1], len(mono_T) - size)
        wave_CT = np.zeros((clips, self._samples), np.float32)
        for clip, clip_begin in enumerate(begins_C.tolist()):
            begin, end = (0, len(mono_T)) if self._across else (clip_begin, min(clip_begin + size, len(mono_T)))
            first = clip_begin + self._first_sample
            inside_T = mono_T[max(begin, first) : max(begin, min(end, first + self._samples))]
            place = max(begin, first) - first
            wave_CT[clip, place : place + len(inside_T)] = inside_T
        starts_C = window.start_seconds + begins_C / config.sample_rate_hz
        return wave_CT, starts_C


class ClipFrontEnd(ABC):
    """A front end that computes its clips in torch, on the device of its input."""

    NUMBERS: ClassVar[int]
    """Version of the numbers: raised whenever a change of this code, or of code that it uses, changes them."""

    dtype: ClassVar[Dtype]

    def __init__(self, cutter: Cutter) -> None:
        self.cut: Final = cutter

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features."""

    @abstractmethod
    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return features of clips: contiguous, of `dtype`, shape (clips, *shape), on the device of the input.

        Args:
            wave_CT: float32 samples from `cut`, on any device; not changed.
        """

    def __call__(self, window: Waveform) -> Clips:
        """Return features of the clips of a window, computed on the CPU; at least one clip."""
        wave_CT, starts_C = self.cut(window)
        with torch.inference_mode():
            parts = [self.features(part_CT) for part_CT in torch.from_numpy(wave_CT).split(_CLIPS_AT_ONCE)]
            features = parts[0] if len(parts) == 1 else torch.cat(parts)
        return Clips(features.numpy(), starts_C)


class Constants:
    """Tensors that never change, copied once to each device that asks for them."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self._on: dict[torch.device, tuple[torch.Tensor, ...]] = {torch.device("cpu"): tensors}

    def on(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Return the tensors on a device."""
        if device not in self._on:
            # Not inference tensors, even if first asked for in inference mode: the next caller may train.
            with torch.inference_mode(False):
                self._on[device] = tuple(tensor.to(device) for tensor in self._on[torch.device("cpu")])
        return self._on[device]
