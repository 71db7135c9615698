"""A generated file, and what is right for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tests.damage.sound import Samples


class Said(Enum):
    """What a row's `damage` must say."""

    NOTHING = "nothing"
    """The file is whole and tells no lies: `damage` is empty."""
    NOT_MISSING = "not that something is missing"
    """All of the sound is there. `damage` may say what is odd, but not that the file is truncated."""
    MISSING = "that something is missing"
    """The file announces more than it holds: `damage` is not empty."""
    ANYTHING = "anything"
    """The file does not tell whether something is missing."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is right for a file.

    Attributes:
        reference: (T,) float32 at `sound.REFERENCE_HZ`: what can be heard of the file, in mono.
        said: what `damage` must say.
        slack_seconds: how far a window's place may be off. More than 0.1 where decoders may rightly differ: by a frame
            of padding at each joint.
        length_slack_seconds: how far the length may be off, if 1 % of it is not more.
        errors: kinds of error that are right; if there are any, the file must not be heard.
        may_be_partial: whether a part is enough, if `damage` says so.
    """

    reference: Samples
    said: Said = Said.NOTHING
    slack_seconds: float = 0.1
    length_slack_seconds: float = 0.1
    errors: frozenset[str] = frozenset()
    may_be_partial: bool = False


@dataclass(frozen=True, eq=False)
class Generated:
    """A file.

    Attributes:
        data: its bytes.
        extension: with its dot.
        kind: what is done to it, a row of the table.
        what: what exactly, in a few words.
        truth: what is right for it.
    """

    data: bytes
    extension: str
    kind: str
    what: str
    truth: Truth
