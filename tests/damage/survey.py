"""Count how many generated files are heard right, by kind.

`python -m tests.damage.survey --files 2000 --seed 0` prints the table of BENCHMARKS.md; `--wrong FILE` also writes each
file that is heard wrong, its seed, and why. `--kind KIND` judges one kind only.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.damage.judge import judge
from tests.damage.kinds import KINDS, generate, generate_files


def main() -> int:
    parser = argparse.ArgumentParser(description="Count how many generated files are heard right, by kind.")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(KINDS))
    parser.add_argument("--wrong", type=argparse.FileType("w"), default=sys.stderr)
    asked = parser.parse_args()
    files, right = Counter[str](), Counter[str]()
    if asked.kind:
        drawn = ((asked.seed + number, generate(asked.kind, asked.seed + number)) for number in range(asked.files))
    else:
        drawn = generate_files(asked.files, asked.seed)
    for seed, file in drawn:
        verdict = judge(file)
        files[file.kind] += 1
        right[file.kind] += verdict.right
        if files.total() % 100 == 0:
            print(f"{files.total()} files, {right.total()} right", file=sys.stderr, flush=True)
        if not verdict.right:
            print(f"{file.kind} | seed {seed} | {file.what} | {verdict.why}", file=asked.wrong, flush=True)
    print("| kind | files | right |\n| --- | --- | --- |")
    for kind, count in files.items():
        print(f"| {kind} | {count} | {right[kind]} |")
    print(f"| all | {files.total()} | {right.total()} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
