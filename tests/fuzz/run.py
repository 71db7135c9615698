"""Feed a parser with files that Atheris makes up, guided by the lines that they reach.

    pip install atheris
    python -m tests.fuzz.run tags --seconds 120 --corpus FOLDER

FOLDER keeps the files that reached something new, for the next time; it begins with small files and with those of
tests/fuzz/found. An input at which a parser raises, or takes more than ten seconds or 1.5 GB, is written beside it and
ends the run. Copy it to tests/fuzz/found; test_cut_files.py tries all that is there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import atheris
import numpy as np

with atheris.instrument_imports(include=["mgc.audio", "mgc.tags", "mutagen"]):
    from tests.fuzz.parsers import FOUND, PARSERS

from tests.damage.kinds import KINDS
from tests.support.good_files import good_files

_MOST_BYTES: Final = 1 << 16


def main() -> None:
    """Fuzz one parser."""
    options = argparse.ArgumentParser(description="Feed a parser with made-up files.")
    options.add_argument("parser", choices=PARSERS)
    options.add_argument("--seconds", type=int, default=120)
    options.add_argument("--corpus", type=Path, required=True)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    corpus: Path = asked.corpus / asked.parser
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        _sow(corpus)
    arguments = [
        *(sys.argv[0], str(corpus), f"-max_total_time={asked.seconds}", f"-max_len={_MOST_BYTES}", "-timeout=10"),
        *("-rss_limit_mb=1500", f"-seed={asked.seed}", f"-artifact_prefix={asked.corpus}/{asked.parser}-"),
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, PARSERS[asked.parser])
    atheris.Fuzz()


def _sow(corpus: Path) -> None:
    """Write the beginnings of sound and of odd files."""
    files = {file.name: file.data for file in good_files()}
    files |= {f"odd {name}": make(np.random.default_rng(0)).data for name, make in KINDS.items()}
    files |= {file.name: file.read_bytes() for file in FOUND.glob("*/*")}
    for name, data in files.items():
        (corpus / name.replace("/", " ")).write_bytes(data[: _MOST_BYTES // 4])


if __name__ == "__main__":
    main()
