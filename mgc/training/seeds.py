"""Seeds from seeds: every random choice of a training has a number of its own, the same on every machine."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int) -> int:
    """A seed from several numbers: the first 63 bits of the SHA-256 of the numbers written with colons between them.

    Python's `hash` is no such thing: it is not documented to stay the same, and neighbours collide.

    Args:
        parts: for example the training's seed, the epoch and the worker's rank; their order counts.

    Returns:
        A number in [0, 2⁶³).
    """
    digest = hashlib.sha256(":".join(str(part) for part in parts).encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
