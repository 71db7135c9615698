"""Single flipped bits, as a bad disk or a bad cable makes them."""

from __future__ import annotations

import random


def flipped(data: bytes, seed: int, below: int = 0) -> bytes:
    """The bytes with one bit flipped, anywhere or in the first bytes."""
    bit = random.Random(seed).randrange((below or len(data)) * 8)
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
