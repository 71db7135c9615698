"""`make dist`: the wheel and the source distribution of a commit, byte for byte the same wherever they are built.

Both are made from the files that git tracks, by the build backend that pyproject.toml names. A file left over in
build/, or a file that nobody committed, is in neither.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]

_BUILD: Final = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
"""Calls a hook of PEP 517, which prints and returns the name of a file."""


def main() -> None:
    """Build into dist/, and print what is there."""
    changed = _git("status", "--porcelain")
    if changed:
        sys.exit(
            f"dist: {len(changed.splitlines())} files are not committed (git status lists them); commit them first."
        )
    for path in build(ROOT / "dist"):
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")


def build(out: Path) -> tuple[Path, Path]:
    """Build the last commit.

    Args:
        out: folder to write to.

    Returns:
        The source distribution and the wheel.
    """
    out.mkdir(parents=True, exist_ok=True)
    at = commit_time()
    with tempfile.TemporaryDirectory(prefix="mgc-dist-") as name:
        sources = Path(name)
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(sources, filter="data")
        # The times in a wheel; setuptools knows the variable.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(at)}
        made = []
        for hook in ("build_sdist", "build_wheel"):
            command = [sys.executable, "-W", "ignore", "-c", _BUILD, hook, str(out)]
            done = subprocess.run(
                command, cwd=sources, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            made.append(out / done.stdout.decode().splitlines()[-1])
    sdist, wheel = made
    sdist.write_bytes(_without_chance(sdist.read_bytes(), at))
    return sdist, wheel


def commit_time() -> int:
    """Return when the last commit was made, in seconds since 1970."""
    return int(_git("log", "-1", "--format=%ct"))


def _without_chance(sdist: bytes, at: int) -> bytes:
    """Return a source distribution without what depends on who built it, and when. setuptools leaves that in."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist)) as files,
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=at) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as sorted_files,
    ):
        for member in sorted(files.getmembers(), key=lambda each: each.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = at, 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            sorted_files.addfile(member, files.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
