"""The order of keys in object storage: that of their UTF-8 bytes, which is also that of Python's strings."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

ASCII_END: Final = 0x7F
UNICODE_END: Final = 0x10FFFF


def between(low: str, high: str, usual: Collection[str] = ()) -> str | None:
    """Find a text about halfway between two others. Returns None if none is easy to find.

    After the characters that both share, this prefers ASCII to the rest of Unicode, which keys seldom use.

    Args:
        low: the lesser text.
        high: the greater text.
        usual: the characters that such texts mostly consist of; these are preferred.
    """
    if low >= high:
        return None
    same = shared(low, high)
    for depth in range(same, len(low) + 1):
        floor = ord(low[depth]) if depth < len(low) else 0x1F
        top = ord(high[same]) if depth == same else UNICODE_END
        if top - floor < 2:
            continue
        fitting = sorted(each for each in usual if floor < ord(each) < top)
        # Keys are likely to have a digit where others have a digit, and a letter where others have a letter.
        alike = [each for each in fitting if _kind(each) == _kind(chr(floor))]
        if alike:
            return low[:depth] + alike[len(alike) // 2]
        if floor < ASCII_END - 1 and top > ASCII_END:
            return low[:depth] + chr(ASCII_END)
        if fitting:
            return low[:depth] + fitting[len(fitting) // 2]
        middle = (floor + top) // 2
        # No key contains half a surrogate pair or a noncharacter.
        while 0xD800 <= middle <= 0xDFFF or middle & 0xFFFE == 0xFFFE:
            middle -= 1
        if middle > floor:
            return low[:depth] + chr(middle)
    return None


def _kind(character: str) -> tuple[bool, bool, bool]:
    return character.isdigit(), character.islower(), character.isupper()


def shared(one: str, other: str) -> int:
    """Count the characters with which two texts begin alike."""
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )
