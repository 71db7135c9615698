"""Linear predictive cepstra of clips.

C: clips, T: samples in time, X: frames, L: lags, P: coefficients of the predictor, N: cepstral coefficients.
"""

from __future__ import annotations

from typing import ClassVar, Final, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.features.clips import Dtype
from mgc.features.cutting import ClipFrontEnd, Constants, Cutter, FramedConfig

_NOISE_SHARE: Final = 1e-5
"""White noise added to a frame, as a share of its energy: 50 dB below. Of purer tones, float32 is too coarse."""

_NOISE_FLOOR: Final = 1e-10
"""White noise added to every frame, as a share of the energy of the clip's loudest: what is 100 dB below is silence."""

_SILENT_ENERGY: Final = 1e-20
"""White noise added to every frame, so that digital silence has a predictor: all zeros."""

_MOST_LAGS: Final = 64


@dataclass(frozen=True, config=STRICT)
class LpccConfig(FramedConfig):
    """Linear predictive cepstral coefficients as float16, shape (n_coefficients, frames).

    Each sample less `pre_emphasis` times the one before it is cut into frames (periodic Hann window, centred, zeros
    beyond the clip's ends). Of a frame's autocorrelation r (linear, lags 0 to `order`), r(0) grows by 1e-5 of itself,
    by 1e-10 of the highest r(0) of the clip's frames, and by 1e-20. From it the recursion of Levinson and Durbin gives
    the predictor A(z) = 1 - a(1) / z - … - a(order) / z^order (the autocorrelation method: always stable), and

        c(n) = a(n) + sum over 0 < k < n of (k / n) c(k) a(n - k),  with a(n) = 0 for n > order,

    the cepstrum of 1 / A (B. Atal, J. Acoust. Soc. Am. 55, 1974). Kept are c(1) to c(n_coefficients); c(0), the
    logarithm of the gain, is left out, so that loudness does not matter. |c(n)| is `order` / n at most; float16 rounds
    it by one part in 2048. A silent frame is 0 throughout.

    Attributes:
        frame_length: length of a frame in samples.
        order: coefficients of the predictor.
        n_coefficients: cepstral coefficients kept; more than `order` is meaningful too.
        pre_emphasis: 0 for none; nearer to 1, low frequencies count for less.
    """

    kind: Literal["lpcc"] = "lpcc"
    frame_length: int = Field(default=2048, ge=64, le=16384, multiple_of=2)
    order: int = Field(default=20, ge=1, le=_MOST_LAGS)
    n_coefficients: int = Field(default=20, ge=1, le=256)
    pre_emphasis: float = Field(default=0.97, ge=0.0, le=1.0)


class Lpcc(ClipFrontEnd):
    """Turns a window into clips of linear predictive cepstra. See `LpccConfig`."""

    NUMBERS: ClassVar[int] = 2
    dtype: ClassVar[Dtype] = "float16"

    def __init__(self, config: LpccConfig) -> None:
        super().__init__(Cutter.of_frames(config, config.frame_length))
        self.config = config
        self._window = Constants(torch.hann_window(config.frame_length))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (coefficients, frames)."""
        return self.config.n_coefficients, self.config.frames

    def features(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return float16 of shape (clips, n_coefficients, frames); see `ClipFrontEnd.features`."""
        predictor_CXP = linear_predictor(self._autocorrelation(wave_CT))
        return cepstrum(predictor_CXP, self.config.n_coefficients).transpose(1, 2).to(torch.float16).contiguous()

    def _autocorrelation(self, wave_CT: torch.Tensor) -> torch.Tensor:
        """Return lags 0 to order of each frame: float64 of shape (clips, frames, lags)."""
        config = self.config
        # The first sample has none before it; its weight in the only frame that holds it is 0.
        emphasized_CT = wave_CT.clone()
        emphasized_CT[:, 1:].sub_(wave_CT[:, :-1], alpha=config.pre_emphasis)
        (window_T,) = self._window.on(wave_CT.device)
        frames_CXT = emphasized_CT.unfold(-1, config.frame_length, config.hop_length) * window_T
        # Longer than a frame by the lags, else the end of a frame would be correlated with its start.
        size = config.frame_length + _MOST_LAGS
        spectrum_CXF = torch.fft.rfft(frames_CXT, n=size)
        power_CXF = spectrum_CXF.real.square().addcmul_(spectrum_CXF.imag, spectrum_CXF.imag)
        lags_CXL: torch.Tensor = torch.fft.irfft(power_CXF, n=size)[..., : config.order + 1].double()
        energy_CX = lags_CXL[..., 0]
        floor_C1 = _NOISE_FLOOR * energy_CX.amax(-1, keepdim=True) + _SILENT_ENERGY
        lags_CXL[..., 0] = energy_CX * (1 + _NOISE_SHARE) + floor_C1
        return lags_CXL


def linear_predictor(lags_CXL: torch.Tensor) -> torch.Tensor:
    """Solve for the predictors by the recursion of Levinson and Durbin.

    Args:
        lags_CXL: autocorrelation, lags 0 to order, lag 0 greater than 0: float64 of shape (…, 1 + order).

    Returns:
        a(1) to a(order), of which sum over k of a(k) · sample(t - k) predicts sample(t): float64 of shape (…, order).
    """
    order = lags_CXL.shape[-1] - 1
    predictor_CXP = torch.zeros_like(lags_CXL[..., 1:])
    error_CX = lags_CXL[..., 0].clone()
    for place in range(order):
        known_CXP = predictor_CXP[..., :place].clone()
        # r(place + 1) less what the predictor of this order says of it.
        missing_CX = lags_CXL[..., place + 1] - (known_CXP * lags_CXL[..., 1 : place + 1].flip(-1)).sum(-1)
        # Exact autocorrelations give reflections inside ±1; rounding may not.
        reflection_CX = (missing_CX / error_CX).clamp_(-1 + _NOISE_SHARE, 1 - _NOISE_SHARE)
        predictor_CXP[..., :place] = known_CXP - reflection_CX.unsqueeze(-1) * known_CXP.flip(-1)
        predictor_CXP[..., place] = reflection_CX
        error_CX = error_CX * (1 - reflection_CX.square())
    return predictor_CXP


def cepstrum(predictor_CXP: torch.Tensor, coefficients: int) -> torch.Tensor:
    """Return the cepstrum of 1 / A(z), c(1) to c(coefficients): float64 of shape (…, coefficients)."""
    order = predictor_CXP.shape[-1]
    cepstrum_CXN = predictor_CXP.new_zeros((*predictor_CXP.shape[:-1], coefficients))
    for n in range(1, coefficients + 1):
        first = max(1, n - order)
        share_K = torch.arange(first, n, dtype=torch.float64, device=predictor_CXP.device) / n
        past_CXK = cepstrum_CXN[..., first - 1 : n - 1] * predictor_CXP[..., : n - first].flip(-1)
        value_CX = (share_K * past_CXK).sum(-1)
        cepstrum_CXN[..., n - 1] = value_CX + predictor_CXP[..., n - 1] if n <= order else value_CX
    return cepstrum_CXN
