"""Seeds from seeds: each random choice of a training has its own seed, the same on every machine."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int) -> int:
    """Return a seed from several numbers: the first 63 bits of the SHA-256 of the numbers, joined by colons.

    Python's `hash` would not do: it is not documented to stay the same, and neighbouring inputs collide.

    Args:
        parts: numbers, for example the training's seed, the epoch and the worker's rank; their order matters.

    Returns:
        A number in [0, 2⁶³).
    """
    digest = hashlib.sha256(":".join(str(part) for part in parts).encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
