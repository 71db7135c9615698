"""All front ends, which turn a window into clips of features, and the id of the numbers that each computes."""

from __future__ import annotations

import functools
import json
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Protocol

from pydantic import Field, TypeAdapter

from mgc.audio.waveform import Waveform
from mgc.configuration import JsonObject, short_hash, to_json
from mgc.features.cepstra.lpcc import Lpcc, LpccConfig
from mgc.features.cepstra.mfcc import Mfcc, MfccConfig
from mgc.features.cepstra.mfcc_statistics import MfccStatistics, MfccStatisticsConfig
from mgc.features.clips import Clips, Dtype
from mgc.features.compressed_mel import CompressedMel, CompressedMelConfig
from mgc.features.cutting import ClipConfig
from mgc.features.handcrafted import Handcrafted, HandcraftedConfig
from mgc.features.image import MelImage, MelImageConfig
from mgc.features.kaldi_mel import KaldiMel, KaldiMelConfig
from mgc.features.mel import LogMel, LogMelConfig
from mgc.features.mel_means import MelMeans, MelMeansConfig
from mgc.features.stack import MelMfcc, MelMfccConfig
from mgc.features.thumbnail import Thumbnail, ThumbnailConfig
from mgc.schema import FeaturesFacts

__all__ = ["AnyFrontEndConfig", "Clips", "FrontEnd", "FrontEndConfig", "build_front_end", "features_id"]

AnyFrontEndConfig = (
    LogMelConfig
    | ThumbnailConfig
    | MfccConfig
    | MfccStatisticsConfig
    | MelMfccConfig
    | MelImageConfig
    | MelMeansConfig
    | HandcraftedConfig
    | LpccConfig
    | KaldiMelConfig
    | CompressedMelConfig
)

FrontEndConfig = Annotated[AnyFrontEndConfig, Field(discriminator="kind")]
"""The configuration of any front end; `kind` says which."""


_CONFIGS: Final[TypeAdapter[Any]] = TypeAdapter(FrontEndConfig)


class FrontEnd(Protocol):
    """A callable that turns a window into clips of features."""

    NUMBERS: ClassVar[int]
    """Version of the numbers: raised whenever a change of its code changes them."""

    dtype: ClassVar[Dtype]
    """Stored type of the features."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one clip's features: (numbers,), (bins, frames) or (height, width, colours)."""

    def __call__(self, window: Waveform) -> Clips:
        """Return features of the clips of a window; at least one clip."""


_FRONT_ENDS: Final[dict[type[Any], type[FrontEnd]]] = {
    LogMelConfig: LogMel,
    ThumbnailConfig: Thumbnail,
    MfccConfig: Mfcc,
    MfccStatisticsConfig: MfccStatistics,
    MelMfccConfig: MelMfcc,
    MelImageConfig: MelImage,
    MelMeansConfig: MelMeans,
    HandcraftedConfig: Handcrafted,
    LpccConfig: Lpcc,
    KaldiMelConfig: KaldiMel,
    CompressedMelConfig: CompressedMel,
}


def read_front_end(values: JsonObject) -> AnyFrontEndConfig:
    """Return the configuration whose `mgc.configuration.to_json` these values are."""
    config: AnyFrontEndConfig = _CONFIGS.validate_json(json.dumps(values), strict=True)
    return config


def build_front_end(config: AnyFrontEndConfig) -> FrontEnd:
    """Return the front end of a configuration."""
    front_end: Any = _FRONT_ENDS[type(config)]
    built: FrontEnd = front_end(config)
    return built


class ClipForm(NamedTuple):
    """Shape and stored type of one clip's features, see `FrontEnd`."""

    shape: tuple[int, ...]
    dtype: Dtype


@functools.lru_cache(maxsize=256)
def clip_form(config: AnyFrontEndConfig) -> ClipForm:
    """Return the form of a front end's clips.

    It takes milliseconds to build a front end, and whoever checks an experiment asks after each change of a field.
    """
    front_end = build_front_end(config)
    return ClipForm(front_end.shape, front_end.dtype)


def features_id(config: AnyFrontEndConfig) -> str:
    """Return twelve hexadecimal digits that change if, and only if, the numbers of the front end can change."""
    identity = config.identity() if isinstance(config, ClipConfig) else to_json(config)
    return short_hash({"front_end": identity, "numbers": _FRONT_ENDS[type(config)].NUMBERS})


def describe_features(config: AnyFrontEndConfig) -> FeaturesFacts:
    """Return what a features table says of the features of a front end."""
    return FeaturesFacts(to_json(config), features_id(config), *clip_form(config))
