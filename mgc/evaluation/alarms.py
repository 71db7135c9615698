"""Alarms of a label run: values that a person should look at before readers of the table do.

An alarm does not undo the run. It means that the night differed from the one before, or that the music differs from
what the model was trained on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT, read_fields
from mgc.units import format_count

_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Tracks = Annotated[int, Field(ge=1)]

_MOVERS_NAMED: Final = 3


@dataclass(frozen=True, config=STRICT)
class Thresholds:
    """Thresholds of the alarms. A value above its threshold raises an alarm, so a threshold of 1 turns an alarm off.

    Two genre mixes are compared by their total variation distance: half the sum of the absolute differences of the
    genres' shares. This is the share of tracks whose genre would have to change to turn one mix into the other.

    Attributes:
        genre_mix_last_night: distance between the table's mix and the mix before the run. A usual night replaces about
            one track in a hundred and cannot move the mix further. One in twenty means another catalog or model.
        genre_mix_of_run: distance between the mix of the tracks that the run labelled and the mix of the table before.
            It detects a bad night that is too small to move the table. New music arrives in whole albums, so this mix
            may differ more.
        genre_mix_training: distance between the table's mix and the mix of the training tracks. Training sets are often
            balanced by hand and catalogs never are, so only a large distance means that the model does not fit.
        quarantined: share of the tracks tried for the first time that could not be decoded. In collections that were
            never cleaned, about one file in a hundred is damaged.
        no_music: share of the tracks tried for the first time that were heard and have no music in them. A collection
            may hold talks and sound effects, so only a large share means that the source or the model is the wrong one.
        fetch_failed: share of the tracks tried for the first time whose bytes did not arrive. After all retries, this
            means that the store is in trouble.
        confidence_drop: difference between the mean confidence of the table before and that of the tracks that the run
            labelled, both by the model. One track varies by about 0.25, so the mean of 1,000 tracks varies by 0.01.
        flips: share of the tracks labelled again from the same bytes whose genre changed. If a new model changes more
            than one in five, look at its scores.
        mix_tracks: smallest number of tracks on either side for a mix or a mean. With fewer, chance alone moves them
            this far. It does not hold for a threshold that a person sets.
        share_tracks: smallest number of tracks for a share. With fewer, single tracks decide. It does not hold for a
            threshold that a person sets, nor where all tracks failed.
    """

    genre_mix_last_night: _Share = 0.05
    genre_mix_of_run: _Share = 0.25
    genre_mix_training: _Share = 0.4
    quarantined: _Share = 0.05
    no_music: _Share = 0.2
    fetch_failed: _Share = 0.01
    confidence_drop: _Share = 0.05
    flips: _Share = 0.2
    mix_tracks: _Tracks = 1000
    share_tracks: _Tracks = 100


THRESHOLDS: Final = tuple(each.name for each in dataclasses.fields(Thresholds))
"""Names of the thresholds."""


def thresholds(overrides: Mapping[str, str]) -> Thresholds:
    """Return thresholds with some values set by name, as on a command line.

    Args:
        overrides: field of `Thresholds` → value as text.

    Raises:
        ConfigError: there is no such field, or the value is out of range.
    """
    return read_fields(Thresholds, overrides, "alarm")


@dataclasses.dataclass(frozen=True)
class Alarm:
    """A value past its threshold.

    Attributes:
        name: field of `Thresholds`.
        value: observed value.
        threshold: threshold that the value exceeds.
        message: sentence for a person.
    """

    name: str
    value: float
    threshold: float
    message: str


@dataclasses.dataclass(frozen=True)
class Observed:
    """The values that a night's alarms compare. Tracks that left the catalog are not counted.

    Attributes:
        genre_counts: genre → labelled tracks in the table.
        previous_genre_counts: genre → labelled tracks before the run; None where there was no table.
        run_genre_counts: genre → tracks that the run labelled.
        training_genre_share: genre → share of the training tracks, 0 to 1; None where unknown.
        first_tries: number of files that the run tried for the first time, those whose bytes have changed among them.
            Retried files have failed before and would raise an alarm on every quiet night.
        quarantined: number of these without a label, for whatever reason.
        no_music: number of these that were heard and have no music in them.
        fetch_failed: number of these whose bytes did not arrive.
        run_confidence: mean confidence of the tracks that the run labelled, 0 to 1; None where there are none.
        run_confidences: number of tracks in that mean.
        previous_confidence: mean confidence of the table before the run; None where there are no tracks.
        previous_confidences: number of tracks in that mean.
        relabeled: number of tracks labelled before and again by the run, from the same bytes.
        flips: number of these whose genre changed.
    """

    genre_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    previous_genre_counts: Mapping[str, int] | None = None
    run_genre_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    training_genre_share: Mapping[str, float] | None = None
    first_tries: int = 0
    quarantined: int = 0
    no_music: int = 0
    fetch_failed: int = 0
    run_confidence: float | None = None
    run_confidences: int = 0
    previous_confidence: float | None = None
    previous_confidences: int = 0
    relabeled: int = 0
    flips: int = 0


def shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Return counts or shares as shares of their sum; empty if the sum is zero."""
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}


def total_variation(these: Mapping[str, float], those: Mapping[str, float]) -> float:
    """Return the total variation distance of two distributions: half the sum of absolute differences, 0 to 1."""
    return 0.5 * math.fsum(abs(these.get(name, 0.0) - those.get(name, 0.0)) for name in {**these, **those})


@dataclasses.dataclass(frozen=True)
class _Watch:
    """What there is to hold against a threshold.

    Attributes:
        value: observed value; None where there is nothing to compare.
        tracks: number of tracks that it is based on, on the side with fewer.
        lacking: what is missing where there are no such tracks.
        floor: threshold that says how many tracks it takes.
        certain: whether the value counts however few the tracks are.
    """

    value: float | None
    tracks: int
    lacking: str
    floor: str = "share_tracks"
    certain: bool = False


def _watches(observed: Observed) -> dict[str, _Watch]:
    """Return what there is to hold against each threshold, in the order of `Thresholds`."""
    now, before, run = observed.genre_counts, observed.previous_genre_counts or {}, observed.run_genre_counts
    training = observed.training_genre_share

    def mix(these: Mapping[str, float], those: Mapping[str, float], tracks: int, lacking: str) -> _Watch:
        distance = total_variation(shares(these), shares(those)) if tracks else None
        return _Watch(distance, tracks, lacking, "mix_tracks")

    def share(part: int, whole: int, lacking: str, certain: bool = False) -> _Watch:
        # A run in which everything fails is no success, however small it is.
        return _Watch(part / whole if whole else None, whole, lacking, certain=certain and 0 < part == whole)

    # What has no music in it has not failed, unless nothing at all got a label.
    found = 0 if observed.quarantined == observed.first_tries else observed.no_music
    first, no_table = "no track was tried for the first time", "no track had a label before the run"
    drop, confidences = None, min(observed.run_confidences, observed.previous_confidences)
    if observed.run_confidence is not None and observed.previous_confidence is not None:
        drop = max(0.0, observed.previous_confidence - observed.run_confidence)
    size, size_before, size_of_run = (sum(counts.values()) for counts in (now, before, run))
    of_run = no_table if not size_before else "the run labelled no track"
    return {
        "genre_mix_last_night": mix(now, before, min(size, size_before), no_table),
        "genre_mix_of_run": mix(run, before, min(size_of_run, size_before), of_run),
        "genre_mix_training": mix(
            now, training or {}, size if training else 0, "the bundle does not say which genres it was trained on"
        ),
        "quarantined": share(observed.quarantined - found, observed.first_tries, first, certain=True),
        "no_music": share(observed.no_music, observed.first_tries, first),
        "fetch_failed": share(observed.fetch_failed, observed.first_tries, first, certain=True),
        "confidence_drop": _Watch(drop, confidences, of_run, "mix_tracks"),
        "flips": share(observed.flips, observed.relabeled, "no track was labelled again from the same bytes"),
    }


def _fewest(name: str, floor: str, limits: Thresholds, chosen: Collection[str]) -> int:
    """Return the fewest tracks of an alarm. A threshold that a person has set counts from the first track on."""
    return 1 if name in chosen and floor not in chosen else int(getattr(limits, floor))


def watched(observed: Observed, limits: Thresholds, chosen: Collection[str] = ()) -> dict[str, float | None]:
    """Return the value of every alarm, raised or not; None where there are too few tracks.

    Args:
        observed: values of the night.
        limits: thresholds.
        chosen: names of the thresholds that a person has set.
    """
    return {
        name: watch.value if watch.certain or watch.tracks >= _fewest(name, watch.floor, limits, chosen) else None
        for name, watch in _watches(observed).items()
    }


@dataclasses.dataclass(frozen=True)
class Unwatched:
    """An alarm that a run could not raise.

    Attributes:
        name: field of `Thresholds`.
        reason: why, as the end of a sentence.
        matters: whether a person has set its threshold, or its value is past it.
    """

    name: str
    reason: str
    matters: bool


def unwatched(observed: Observed, limits: Thresholds, chosen: Collection[str] = ()) -> list[Unwatched]:
    """Return the alarms that a run could not raise, in the order of `Thresholds`. See `watched` for the arguments."""
    values, found = watched(observed, limits, chosen), []
    for name, watch in _watches(observed).items():
        if values[name] is not None:
            continue
        reason, past = watch.lacking, watch.value is not None and watch.value > getattr(limits, name)
        if watch.tracks and watch.value is not None:
            fewest = _fewest(name, watch.floor, limits, chosen)
            reason = (
                f"{watch.value:.3g} from {format_count(watch.tracks, 'track')}; it takes {fewest:,} ({watch.floor})"
            )
        found.append(Unwatched(name, reason, past or name in chosen))
    return found


def alarms(observed: Observed, limits: Thresholds, chosen: Collection[str] = ()) -> list[Alarm]:
    """Return the values above their thresholds, in the order of `Thresholds`. See `watched` for the arguments."""
    raised = []
    for name, value in watched(observed, limits, chosen).items():
        threshold = float(getattr(limits, name))
        if value is not None and value > threshold:
            raised.append(Alarm(name, value, threshold, _sentence(name, value, threshold, observed)))
    return raised


def _sentence(name: str, value: float, threshold: float, seen: Observed) -> str:
    table, before = shares(seen.genre_counts), shares(seen.previous_genre_counts or {})
    against = f"; the threshold is {_percent(threshold)}"
    match name:
        case "genre_mix_last_night":
            moved = _movers(before, table)
            return f"The table's genre mix is {_percent(value)} away from the mix before the run{against}: {moved}."
        case "genre_mix_of_run":
            moved = _movers(before, shares(seen.run_genre_counts))
            return (
                f"The genre mix of the run's tracks is {_percent(value)} away from the mix of the table before"
                f"{against}: {moved}."
            )
        case "genre_mix_training":
            moved = _movers(seen.training_genre_share or {}, table)
            return f"The table's genre mix is {_percent(value)} away from the training set's{against}: {moved}."
        case "quarantined":
            if seen.quarantined == seen.first_tries:
                files = format_count(seen.first_tries, "file")
                return f"Of {files} tried for the first time none got a label{against}."
            of = f"{seen.quarantined - seen.no_music:,} of {format_count(seen.first_tries, 'file')}"
            return f"{of} ({_percent(value)}) tried for the first time could not be decoded{against}."
        case "no_music":
            of = f"{seen.no_music:,} of {format_count(seen.first_tries, 'file')}"
            return f"{of} ({_percent(value)}) tried for the first time without any music{against}."
        case "fetch_failed":
            of = f"{seen.fetch_failed:,} of {format_count(seen.first_tries, 'file')}"
            return f"The bytes of {of} ({_percent(value)}) did not arrive{against}: look at the store."
        case "confidence_drop":
            return (
                f"The mean confidence of the run's tracks is {seen.run_confidence or 0:.3f}, {value:.3f} lower than in "
                f"the table before ({seen.previous_confidence or 0:.3f}); the threshold is {threshold:g}."
            )
        case _:
            of = f"{seen.flips:,} of {format_count(seen.relabeled, 'track')}"
            return f"{of} ({_percent(value)}) labelled again from the same bytes changed their genre{against}."


def _movers(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Return the genres whose shares differ most, with both shares."""
    moved = {name: abs(after.get(name, 0.0) - before.get(name, 0.0)) for name in {**before, **after}}
    # Rounded, so that equal differences are in order of name.
    names = sorted(moved, key=lambda name: (-round(moved[name], 9), name))
    return ", ".join(
        f"{name} {_percent(before.get(name, 0.0))} → {_percent(after.get(name, 0.0))}" for name in names[:_MOVERS_NAMED]
    )


def _percent(share: float) -> str:
    # A share of two in ten thousand must not read as zero.
    return f"{100 * share:.1f} %" if share >= 0.0005 or share == 0 else f"{100 * share:.1g} %"
