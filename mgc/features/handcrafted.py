"""Vectors of hand-crafted features, computed by librosa.

C: clips, T: samples in time, F: frequency bins, M: mel bins, X: frames, R: rows of features over time.
"""

from __future__ import annotations

import contextlib
import fcntl
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mgc.audio.waveform import Waveform
from mgc.configuration import STRICT
from mgc.errors import ConfigError
from mgc.features.clips import Clips, Dtype
from mgc.features.cutting import ClipConfig, Cutter
from mgc.features.mel_power import mel_filters

_N_MFCC: Final = 20
_N_CHROMA: Final = 12
_N_MELS: Final = 128
_CONTRAST_TOP_HZ: Final = 12_800
"""Upper edge of the highest band of librosa's spectral contrast."""

_MFCC: Final = tuple(f"mfcc_{number}" for number in range(_N_MFCC))
_CHROMA: Final = tuple(f"chroma_{number}" for number in range(_N_CHROMA))
_MEANS: Final = ("tempo", "zero_crossing_rate", "centroid", "flatness", "chroma", "contrast", *_MFCC)
_ROWS: Final = (*_MFCC, *_CHROMA, "centroid", "bandwidth", "rolloff", "zero_crossing_rate")


@dataclass(frozen=True, config=STRICT)
class HandcraftedConfig(ClipConfig):
    """Hand-crafted features of a clip as one float32 vector, by librosa with its defaults.

    The window is resampled and cut as `ClipConfig` says; the default of 5 s is what Minhas, Chie and Lee took of a
    track. One short-time Fourier transform (Hann window, centred, zeros beyond the clip's ends) and one mel spectrogram
    (128 bins up to half the rate) serve all features. `statistics` says which vector:

    - "means", 26 numbers, those of Minhas, Chie and Lee: tempo in beats per minute (librosa.feature.tempo of the onset
      strength), then means over the frames: zero-crossing rate (share of samples), spectral centroid (Hz), flatness,
      chroma (mean over the 12 classes too), contrast (dB; mean over the 7 bands too), 20 MFCC. The paper gives one
      number to chroma and to contrast and does not say how it is made; nor does it name its parameters.
    - "means_and_variances", 72 numbers, the features that Gállego, Garcia Cabrera, Cuxart Garcia and Cortès name: of 20
      MFCC, 12 chroma classes, spectral centroid, bandwidth and roll-off (85 % of the magnitude; all three in Hz) and
      zero-crossing rate the means over the frames, then in the same order the variances (divided by the number of
      frames). The paper says "and others" without naming them; they are left out. It does not say how a row becomes
      numbers.

    The paper's scaling (minimum to maximum, or standardised) is left to the reader of the vectors: it needs all tracks.
    Chroma is of the power spectrum, its tuning estimated for each clip, each frame divided by its highest class; MFCC
    are as `MfccConfig` describes them. In a silent clip all is 0 but tempo (the prior's), flatness (1) and MFCC.

    Attributes:
        n_fft: length of a frame in samples; its bins are at most 200 Hz apart.
        hop_length: samples from one frame to the next; 4 to 200 frames per second.
        statistics: kind of vector.
    """

    kind: Literal["handcrafted"] = "handcrafted"
    clip_seconds: float = Field(default=5.0, ge=0.1, le=120.0)
    n_fft: int = Field(default=2048, ge=64, le=16384, multiple_of=2)
    hop_length: int = Field(default=512, ge=16, le=16384)
    statistics: Literal["means", "means_and_variances"] = "means"

    @model_validator(mode="after")
    def _librosa_can(self) -> Self:
        rate_hz = self.sample_rate_hz
        if self.clip_samples < self.n_fft:
            raise ValueError(f"n_fft {self.n_fft}: a clip of {self.clip_seconds:g} s has {self.clip_samples} samples")
        if rate_hz > 200 * self.n_fft:
            raise ValueError(f"n_fft {self.n_fft}: frequency bins {rate_hz / self.n_fft:.0f} Hz apart, more than 200")
        if not 4 <= rate_hz / self.hop_length <= 200:
            raise ValueError(f"hop_length {self.hop_length}: {rate_hz / self.hop_length:.1f} frames/s, not 4 to 200")
        if self.statistics == "means" and rate_hz <= _CONTRAST_TOP_HZ:
            raise ValueError(f"sample_rate_hz {rate_hz}: spectral contrast needs more than {_CONTRAST_TOP_HZ}")
        return self


class Handcrafted:
    """Turns a window into hand-crafted vectors. See `HandcraftedConfig`."""

    NUMBERS: ClassVar[int] = 1
    """Version of the numbers: raised whenever a change of this code, or of librosa, changes them."""

    dtype: ClassVar[Dtype] = "float32"

    def __init__(self, config: HandcraftedConfig) -> None:
        self.config = config
        self._cut = Cutter.of_clips(config)
        rate_hz = config.sample_rate_hz
        self._filters_MF = np.ascontiguousarray(mel_filters(rate_hz, config.n_fft, _N_MELS, 0.0, rate_hz / 2).T)
        self._compiled = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (numbers,)."""
        return (len(self.names),)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers."""
        if self.config.statistics == "means":
            return _MEANS
        return (*(f"{name}_mean" for name in _ROWS), *(f"{name}_variance" for name in _ROWS))

    def __call__(self, window: Waveform) -> Clips:
        """Return features of the clips of a window: float32 of shape (clips, numbers), at least one clip."""
        wave_CT, starts_C = self._cut(window)
        vector = self._means if self.config.statistics == "means" else self._means_and_variances
        with contextlib.nullcontext() if self._compiled else _alone_with_librosa():
            vectors = np.stack([vector(wave_T, *self._spectra(wave_T)) for wave_T in wave_CT])
        self._compiled = True
        return Clips(vectors.astype(np.float32), starts_C)

    def _spectra(self, wave_T: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Return magnitude and power (bins, frames), and mel decibels (mels, frames)."""
        librosa = _librosa()
        magnitude_FX = np.abs(librosa.stft(wave_T, n_fft=self.config.n_fft, hop_length=self.config.hop_length))
        power_FX = magnitude_FX**2
        return magnitude_FX, power_FX, librosa.power_to_db(self._filters_MF @ power_FX)

    def _means(
        self,
        wave_T: NDArray[np.float32],
        magnitude_FX: NDArray[np.float32],
        power_FX: NDArray[np.float32],
        mel_db_MX: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        librosa, config = _librosa(), self.config
        rate_hz, hop_length = config.sample_rate_hz, config.hop_length
        onsets_X = librosa.onset.onset_strength(S=mel_db_MX, sr=rate_hz, n_fft=config.n_fft, hop_length=hop_length)
        tempo = librosa.feature.tempo(onset_envelope=onsets_X, sr=rate_hz, hop_length=hop_length)
        rows = (
            self._crossings(wave_T),
            librosa.feature.spectral_centroid(S=magnitude_FX, sr=rate_hz),
            librosa.feature.spectral_flatness(S=magnitude_FX),
            self._chroma(power_FX),
            librosa.feature.spectral_contrast(S=magnitude_FX, sr=rate_hz),
        )
        mfcc_RX = librosa.feature.mfcc(S=mel_db_MX, n_mfcc=_N_MFCC)
        means = [np.mean(row_RX, dtype=np.float64) for row_RX in rows]
        return np.concatenate([tempo, means, mfcc_RX.mean(axis=1, dtype=np.float64)])

    def _means_and_variances(
        self,
        wave_T: NDArray[np.float32],
        magnitude_FX: NDArray[np.float32],
        power_FX: NDArray[np.float32],
        mel_db_MX: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        librosa, rate_hz = _librosa(), self.config.sample_rate_hz
        centroid_RX = librosa.feature.spectral_centroid(S=magnitude_FX, sr=rate_hz)
        rows_RX = np.concatenate(
            [
                librosa.feature.mfcc(S=mel_db_MX, n_mfcc=_N_MFCC),
                self._chroma(power_FX),
                centroid_RX,
                librosa.feature.spectral_bandwidth(S=magnitude_FX, sr=rate_hz, centroid=centroid_RX),
                librosa.feature.spectral_rolloff(S=magnitude_FX, sr=rate_hz),
                self._crossings(wave_T),
            ]
        ).astype(np.float64)
        return np.concatenate([rows_RX.mean(axis=1), rows_RX.var(axis=1)])

    def _crossings(self, wave_T: NDArray[np.float32]) -> NDArray[np.float64]:
        config = self.config
        crossings_RX: NDArray[np.float64] = _librosa().feature.zero_crossing_rate(
            wave_T, frame_length=config.n_fft, hop_length=config.hop_length
        )
        return crossings_RX

    def _chroma(self, power_FX: NDArray[np.float32]) -> NDArray[np.float32]:
        with warnings.catch_warnings():
            # In silence librosa cannot estimate the tuning. It assumes 0, and warns.
            warnings.filterwarnings("ignore", message="Trying to estimate tuning from empty")
            chroma_RX: NDArray[np.float32] = _librosa().feature.chroma_stft(
                S=power_FX, sr=self.config.sample_rate_hz, n_fft=self.config.n_fft
            )
        return chroma_RX


@contextlib.contextmanager
def _alone_with_librosa() -> Iterator[None]:
    """Keep all other processes that share this installation of librosa out of here.

    numba compiles librosa's functions at their first use, which takes half a minute, and keeps them in files: a
    function in one, and what calls it in another. If two processes write these at the same time, the two may come from
    different processes. From then on, every process that calls the function crashes, until somebody deletes the files.
    """
    found = find_spec("librosa")
    with contextlib.ExitStack() as stack:
        # A cell cannot open the file, but its warden was here before it. Some network file systems know no locks.
        with contextlib.suppress(OSError):
            if found is not None and found.origin is not None:
                fcntl.flock(stack.enter_context(Path(found.origin).open("rb")), fcntl.LOCK_EX)
        yield


def _librosa() -> Any:
    """Return librosa. It is imported on first use: that takes seconds, and most runs do not need it.

    Raises:
        ConfigError: librosa is not installed.
    """
    try:
        import librosa
    except ModuleNotFoundError as error:
        raise ConfigError("handcrafted features need librosa, not installed here: pip install 'mgc[train]'.") from error
    return librosa
