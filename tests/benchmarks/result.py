"""What a measurement gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """A named value, the aim in words, and what else was seen."""

    name: str
    value: float
    aim: str
    detail: str
