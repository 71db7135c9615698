"""Alarms of a labels run: numbers that a person should look at before readers of the table do.

An alarm does not undo the run. It says that the night was unlike the one before, or that the model meets other music
than it was trained on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.errors import ConfigError

_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Tracks = Annotated[int, Field(ge=1)]

_MOVERS_NAMED: Final = 3


@dataclass(frozen=True, config=STRICT)
class Thresholds:
    """A value past its threshold is an alarm; at the threshold it is none, so that 1 turns an alarm off.

    Two genre mixes are compared by their total variation distance: half the sum of the absolute differences of the
    genres' shares, which is the share of tracks that would have to change their genre to make the one mix the other.

    Attributes:
        genre_mix_last_night: distance of the table's mix from that before the run. A usual night replaces about one
            track in a hundred and cannot move the mix further; one in twenty is another catalog or another model.
        genre_mix_of_run: distance of the mix of the tracks that the run labeled from that of the table before. It sees
            a bad night that is too small to move the table. New music comes in albums and labels, so it may differ.
        genre_mix_training: distance of the table's mix from that of the training tracks. Training sets are often
            balanced by hand and catalogs never are, so only a far one says that the model is out of its depth.
        quarantined: share of the tracks that the run tried for the first time and could not hear. Damaged files are
            about one in a hundred in collections that were never cleaned.
        fetch_failed: share of the same tracks whose bytes did not arrive. After the retries that is a store in trouble.
        confidence_drop: how much lower the mean confidence of the tracks that the run labeled is than that of the table
            before, both the model's own. A single track varies by about 0.25, so the mean of 1,000 by 0.01.
        flips: share of the tracks labeled anew from the same bytes that got another genre. A new model that answers
            more than one in five otherwise deserves a look at its scores.
        mix_tracks: fewest tracks on either side for a mix or a mean; below, chance alone moves them so far.
        share_tracks: fewest tracks for a share; below, single tracks decide.
    """

    genre_mix_last_night: _Share = 0.05
    genre_mix_of_run: _Share = 0.25
    genre_mix_training: _Share = 0.4
    quarantined: _Share = 0.05
    fetch_failed: _Share = 0.01
    confidence_drop: _Share = 0.05
    flips: _Share = 0.2
    mix_tracks: _Tracks = 1000
    share_tracks: _Tracks = 100


def thresholds(overrides: Mapping[str, str]) -> Thresholds:
    """The thresholds with some set by name, as on a command line.

    Args:
        overrides: field of `Thresholds` → its value as text.

    Raises:
        ConfigError: there is no such field, or its value is out of range.
    """
    names = [field.name for field in dataclasses.fields(Thresholds)]
    for name in overrides:
        if name not in names:
            raise ConfigError(f"there is no alarm {name!r}; the alarms are {', '.join(names)}.")
    try:
        return TypeAdapter(Thresholds).validate_python(dict(overrides))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][-1])
        raise ConfigError(f"alarm {name}: {overrides[name]!r} does not do: {first['msg']}.") from None


@dataclasses.dataclass(frozen=True)
class Alarm:
    """A value past its threshold.

    Attributes:
        name: the field of `Thresholds`.
        value: what was found.
        threshold: what it was held against.
        message: one sentence for a person.
    """

    name: str
    value: float
    threshold: float
    message: str


@dataclasses.dataclass(frozen=True)
class Observed:
    """What a night's alarms are made of. Counts of tracks, none of them removed from the catalog.

    Attributes:
        genre_counts: genre → labeled tracks in the table.
        previous_genre_counts: the same before the run; None where there was no table.
        run_genre_counts: genre → tracks that the run labeled.
        training_genre_share: genre → share of the training tracks, 0 to 1; None where unknown.
        first_tries: tracks that the run tried for the first time. Those tried again have failed before, and would make
            an alarm of every quiet night.
        quarantined: those of them that have no label.
        fetch_failed: those of them whose bytes did not arrive.
        run_confidence: mean confidence of the tracks that the run labeled, 0 to 1; None where there is none.
        run_confidences: how many tracks that is the mean of.
        previous_confidence: the same of the table before the run.
        previous_confidences: how many tracks that is the mean of.
        relabeled: tracks labeled before and by the run, from the same bytes.
        flips: those of them with another genre than before.
    """

    genre_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    previous_genre_counts: Mapping[str, int] | None = None
    run_genre_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    training_genre_share: Mapping[str, float] | None = None
    first_tries: int = 0
    quarantined: int = 0
    fetch_failed: int = 0
    run_confidence: float | None = None
    run_confidences: int = 0
    previous_confidence: float | None = None
    previous_confidences: int = 0
    relabeled: int = 0
    flips: int = 0


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Counts as shares of their sum; nothing where that is zero."""
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}


def total_variation(these: Mapping[str, float], those: Mapping[str, float]) -> float:
    """Total variation distance of two distributions: half the sum of absolute differences, 0 to 1."""
    return 0.5 * math.fsum(abs(these.get(name, 0.0) - those.get(name, 0.0)) for name in {**these, **those})


def watched(observed: Observed, limits: Thresholds) -> dict[str, float | None]:
    """The value of every alarm, past its threshold or not; None where there are too few tracks to tell."""
    before, training = observed.previous_genre_counts, observed.training_genre_share
    table = shares(observed.genre_counts)

    def mix(*counted: Mapping[str, int]) -> bool:
        return all(sum(counts.values()) >= limits.mix_tracks for counts in counted)

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole >= limits.share_tracks else None

    drop = None
    enough = min(observed.run_confidences, observed.previous_confidences) >= limits.mix_tracks
    if enough and observed.run_confidence is not None and observed.previous_confidence is not None:
        drop = max(0.0, observed.previous_confidence - observed.run_confidence)
    return {
        "genre_mix_last_night": total_variation(table, shares(before))
        if before is not None and mix(observed.genre_counts, before)
        else None,
        "genre_mix_of_run": total_variation(shares(observed.run_genre_counts), shares(before))
        if before is not None and mix(observed.run_genre_counts, before)
        else None,
        "genre_mix_training": total_variation(table, training) if training and mix(observed.genre_counts) else None,
        "quarantined": share(observed.quarantined, observed.first_tries),
        "fetch_failed": share(observed.fetch_failed, observed.first_tries),
        "confidence_drop": drop,
        "flips": share(observed.flips, observed.relabeled),
    }


def alarms(observed: Observed, limits: Thresholds) -> list[Alarm]:
    """The values past their thresholds, in the order of `Thresholds`."""
    raised = []
    for name, value in watched(observed, limits).items():
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
            return f"The table's genre mix is {_percent(value)} away from that before the run{against}: {moved}."
        case "genre_mix_of_run":
            moved = _movers(before, shares(seen.run_genre_counts))
            return (
                f"The genre mix of the run's tracks is {_percent(value)} away from that of the table before{against}: "
                f"{moved}."
            )
        case "genre_mix_training":
            moved = _movers(seen.training_genre_share or {}, table)
            return f"The table's genre mix is {_percent(value)} away from the training set's{against}: {moved}."
        case "quarantined":
            of = f"{seen.quarantined:,} of {seen.first_tries:,}"
            return f"{of} tracks ({_percent(value)}) tried for the first time could not be heard{against}."
        case "fetch_failed":
            of = f"{seen.fetch_failed:,} of {seen.first_tries:,}"
            return f"The bytes of {of} tracks ({_percent(value)}) did not arrive{against}: look at the store."
        case "confidence_drop":
            return (
                f"The mean confidence of the run's tracks is {seen.run_confidence or 0:.3f}, that of the table before "
                f"{seen.previous_confidence or 0:.3f}: {value:.3f} lower; the threshold is {threshold:g}."
            )
        case _:
            of = f"{seen.flips:,} of {seen.relabeled:,}"
            return f"{of} tracks ({_percent(value)}) labeled anew from the same bytes changed their genre{against}."


def _movers(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """The genres whose shares differ most."""
    moved = {name: abs(after.get(name, 0.0) - before.get(name, 0.0)) for name in {**before, **after}}
    # Rounded, so that of equal ones the first by name comes first.
    names = sorted(moved, key=lambda name: (-round(moved[name], 9), name))
    return ", ".join(
        f"{name} {_percent(before.get(name, 0.0))} → {_percent(after.get(name, 0.0))}" for name in names[:_MOVERS_NAMED]
    )


def _percent(share: float) -> str:
    # A share of two in ten thousand is not none.
    return f"{100 * share:.1f} %" if share >= 0.0005 or share == 0 else f"{100 * share:.1g} %"
