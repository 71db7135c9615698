"""What generators draw: pieces of sound files, from few enough lengths that most are encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from numpy.random import Generator

from tests.damage.generated import Generated, Said, Truth
from tests.damage.pieces import RATES_HZ, Piece, join, make_piece

Kind = Callable[[Generator], Generated]
"""Generates a file of a kind from a source of chance."""

Item = TypeVar("Item")


def pick(rng: Generator, items: Sequence[Item]) -> Item:
    """Return one of the items."""
    return items[int(rng.integers(len(items)))]


def draw_piece(
    rng: Generator,
    formats: Sequence[str],
    seconds: Sequence[float] = (6.0, 9.0, 14.0),
    rates_hz: Sequence[int] = (44100, 48000),
    channels: Sequence[int] = (1, 2),
    group: int = 0,
) -> Piece:
    """Return a piece. Pieces of other groups have other sounds, so that a file does not hold the same sound twice."""
    name = pick(rng, formats)
    rates_hz = [rate_hz for rate_hz in rates_hz if rate_hz in RATES_HZ[name]] or RATES_HZ[name][-1:]
    return make_piece(name, pick(rng, seconds), group, pick(rng, rates_hz), pick(rng, channels))


def damaged(
    piece: Piece, kind: str, what: str, data: bytes, said: Said, length_slack_seconds: float = 0.1, **more: bool
) -> Generated:
    """Return a file that sounds like a piece, whatever was done to its bytes."""
    truth = Truth(join([piece]), said, length_slack_seconds=length_slack_seconds, **more)
    about = f"{piece.format} {piece.rate_hz} Hz {piece.channels} ch {piece.seconds:g} s: {what}"
    return Generated(data, piece.extension, kind, about, truth)
