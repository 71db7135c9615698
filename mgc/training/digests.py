"""Digests of the files in a folder, kept in a file beside them, so that damage is noticed before anything is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

DIGESTS: Final = "digests.json"


def write_digests(folder: Path, names: Iterable[str]) -> None:
    """Write the digests of files of a folder into `DIGESTS`."""
    digests = {name: _digest(folder / name) for name in names}
    (folder / DIGESTS).write_text(json.dumps(digests))


def find_damage(folder: Path, names: Iterable[str]) -> str | None:
    """Return what is wrong with a folder, as a clause; None if every file has its digest.

    A folder without `DIGESTS` passes: an earlier mgc wrote it.

    Args:
        folder: where `write_digests` wrote.
        names: names of the files that must be there.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        return f"{missing[0]} is missing"
    if not (folder / DIGESTS).is_file():
        return None
    try:
        digests = json.loads((folder / DIGESTS).read_bytes())
    except ValueError:
        return f"{DIGESTS} is not JSON"
    if not isinstance(digests, dict) or digests.keys() != set(names):
        return f"{DIGESTS} does not name the files of the folder"
    return next(
        (f"{name} does not match its digest" for name, said in digests.items() if _digest(folder / name) != said), None
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
