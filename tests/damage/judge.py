"""Whether a file was heard right. T: samples in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from mgc.audio.decode import Listened, decode
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import record
from mgc.audio.source import Held
from mgc.audio.waveform import Waveform
from mgc.errors import AudioError, ErrorKind
from tests.damage.generated import Generated, Said, Truth
from tests.damage.sound import REFERENCE_HZ, Samples, find_place, is_alike, loudness, to_reference

PLANS: Final = (
    ListeningPlan(window_seconds=5.0, where="all"),
    ListeningPlan(window_seconds=3.0, windows=3),
)
"""The whole file, and a few windows, for which only stretches of a long MP3 are read."""

_PIECE_SECONDS: Final = 1.0
_REACH_SECONDS: Final = 0.3
"""A window's place is looked for this far around where it says it is, then everywhere."""

_LENGTH_SHARE: Final = 0.01
_QUIET_SHARE: Final = 0.3
"""A piece of the reference this much quieter than the whole tells no place."""
_LOST_LEVEL: Final = 0.05
"""A piece this much quieter than the reference is lost: what a lossy codec leaves of channels that cancel out."""

Heard = Listened[Waveform] | AudioError


@dataclass(frozen=True)
class Verdict:
    """Whether a file was heard right, and if not, why; `why` is empty if it was."""

    why: str = ""

    @property
    def right(self) -> bool:
        return not self.why


def judge(file: Generated) -> Verdict:
    """Hear a file by each plan, and return the first thing that is wrong."""
    return judge_heard(hear(file), file.truth)


def hear(file: Generated) -> tuple[Heard, ...]:
    """Hear a file by each plan, from its bytes to its windows, as a row of the labels table is heard."""
    return tuple(_hear(file.data, plan) for plan in PLANS)


def _hear(data: bytes, plan: ListeningPlan) -> Heard:
    try:
        return decode(record(Held(data), plan, again=Held(data)), plan)
    except AudioError as error:
        return error
    # A decoder that fails in an unforeseen way fails in its row, and must not end the count.
    except Exception as error:  # noqa: BLE001
        return AudioError(ErrorKind.CORRUPT_STREAM, f"unexpected {type(error).__name__}: {error}")


def judge_heard(heard: tuple[Heard, ...], truth: Truth) -> Verdict:
    """Compare what was heard by each plan with what is right, and return the first thing that is wrong."""
    for plan, answer in zip(PLANS, heard, strict=True):
        why = _find_wrong(answer, truth, plan)
        if why:
            return Verdict(f"{plan.where}: {why}")
    return Verdict()


def _find_wrong(heard: Heard, truth: Truth, plan: ListeningPlan) -> str:
    if truth.errors:
        wanted = " or ".join(sorted(truth.errors))
        if isinstance(heard, AudioError):
            return "" if str(heard.kind) in truth.errors else f"refused as {heard.kind}, not {wanted}: {heard}"
        return f"heard, {heard.duration_seconds:.2f} s, but it is {wanted}"
    if isinstance(heard, AudioError):
        return f"refused: {heard.kind}: {heard}"
    if truth.may_be_partial and heard.damage:
        return ""
    return _find_wrong_damage(heard, truth) or _find_wrong_length(heard, truth, plan) or _find_wrong_place(heard, truth)


def _find_wrong_damage(heard: Listened[Waveform], truth: Truth) -> str:
    damage = heard.damage
    if truth.said is Said.NOTHING and damage:
        return f"nothing is wrong, but it says: {damage}"
    if truth.said is Said.NOT_MISSING and "truncated" in (damage or ""):
        return f"nothing is missing, but it says: {damage}"
    if truth.said is Said.MISSING and not damage:
        return "something is missing, and it does not say so"
    return ""


def _find_wrong_length(heard: Listened[Waveform], truth: Truth, plan: ListeningPlan) -> str:
    seconds = len(truth.reference) / REFERENCE_HZ
    allowed = max(truth.length_slack_seconds, seconds * _LENGTH_SHARE, heard.tolerance_seconds)
    if abs(heard.duration_seconds - seconds) > allowed:
        return f"{heard.duration_seconds:.2f} s long, but it has {seconds:.2f} s"
    planned = sum(excerpt.seconds for excerpt in plan.excerpts(heard.duration_seconds))
    if heard.seconds < planned - allowed and not _has_silence(truth.reference):
        return f"{heard.seconds:.2f} s heard of {planned:.2f} s planned"
    return ""


def _has_silence(reference_T: Samples) -> bool:
    """Return whether half a second of it is silent: windows there need not be heard."""
    step = REFERENCE_HZ // 2
    return any(not reference_T[start : start + step].any() for start in range(0, len(reference_T) - step, step))


def _find_wrong_place(heard: Listened[Waveform], truth: Truth) -> str:
    reference_T = truth.reference
    whole = loudness(reference_T)
    slack_seconds = max(truth.slack_seconds, heard.tolerance_seconds)
    found = 0
    for window in heard.windows:
        heard_T = to_reference(window.samples, window.sample_rate_hz)
        step = round(_PIECE_SECONDS * REFERENCE_HZ)
        for start in range(0, max(1, len(heard_T) - step // 2), step):
            piece_T = heard_T[start : start + step]
            said_seconds = window.start_seconds + start / REFERENCE_HZ
            why, recognised = _find_wrong_piece(piece_T, said_seconds, reference_T, whole, slack_seconds)
            if why:
                return why
            found += recognised
    return "" if found or whole == 0 else "none of its sound is in the windows"


def _find_wrong_piece(
    piece_T: Samples, said_seconds: float, reference_T: Samples, whole: float, slack_seconds: float
) -> tuple[str, bool]:
    """Return what is wrong with a piece of a window, and whether its place was recognised."""
    place = round(said_seconds * REFERENCE_HZ)
    expected_T = reference_T[place : place + len(piece_T)]
    if len(expected_T) < len(piece_T) / 2 or loudness(expected_T) < _QUIET_SHARE * whole:
        return "", False
    if loudness(piece_T) < _LOST_LEVEL * loudness(expected_T):
        return f"silence at {said_seconds:.1f} s", False
    reach = round((_REACH_SECONDS + slack_seconds) * REFERENCE_HZ)
    first = max(0, place - reach)
    around_T = reference_T[first : place + len(piece_T) + reach]
    if _lies_there(piece_T, around_T, said_seconds - first / REFERENCE_HZ, slack_seconds):
        return "", True
    true_seconds, alike = find_place(piece_T, reference_T)
    if is_alike(alike):
        return f"what it says is at {said_seconds:.2f} s is at {true_seconds:.2f} s", False
    # Two streams meet in it, and the second lies a little off the first.
    quarters = np.array_split(piece_T, 4)
    places = said_seconds - first / REFERENCE_HZ + np.arange(4) * len(piece_T) / 4 / REFERENCE_HZ
    fits = [_lies_there(part_T, around_T, at, slack_seconds) for part_T, at in zip(quarters, places, strict=True)]
    if sum(fits) >= 3:
        return "", True
    return f"what it gives for {said_seconds:.2f} s is nowhere in it (alike {alike:.2f})", False


def _lies_there(piece_T: Samples, around_T: Samples, place_seconds: float, slack_seconds: float) -> bool:
    """Return whether a piece is found where it says it is."""
    near, alike = find_place(piece_T, around_T)
    return is_alike(alike) and abs(near - place_seconds) <= slack_seconds
