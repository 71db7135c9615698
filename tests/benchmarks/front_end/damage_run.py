"""One whole labelling run over damaged files: is every file accounted for, in bounded time and memory?

    python -m tests.benchmarks.front_end.damage_run --files 2000 --seed 0 --out FOLDER

FOLDER gets `files/` (one folder for each damage; a tenth of the files are good ones), `labels/` (the table) and
`job.log`. Exit code 0 only if the job ended with 0 and every file has exactly one row that is labelled or quarantined.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from deltalake import DeltaTable
from rich.console import Console
from rich.table import Table

from cluster.session import ray_internals
from tests.benchmarks.processes import MemoryWatch
from tests.support.damage import damaged_files
from tests.support.good_files import good_files

GOOD = "good"
GOOD_SHARE = 0.1
LISTEN = ray_internals.map_worker_title("Listen")
"""How Ray names the processes that decode."""


@dataclass(frozen=True)
class Outcome:
    """What became of the run.

    Attributes:
        exit_code: of the job.
        seconds: wall time of the job, Ray's start included.
        faults: what is wrong with the table, one line each; empty when all is well.
        rows: the labels table, one dict a row.
        peak_mb: largest resident memory of each descendant, by its name and process id.
    """

    exit_code: int
    seconds: float
    faults: list[str]
    rows: list[dict[str, Any]]
    peak_mb: dict[str, float]


def write_files(folder: Path, count: int, seed: int) -> set[str]:
    """Damaged files and a few good ones; returns their names below the folder."""
    good = good_files()
    named = ((file.name, file.data) for file in damaged_files(count, seed, good))
    kept = ((f"{GOOD}/{n:05d}-{good[n % len(good)].name}", good[n % len(good)].data) for n in range(_good(count)))
    names = set()
    for source in (named, kept):
        for name, data in source:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            names.add(name)
    return names


def _good(count: int) -> int:
    return max(1, round(count * GOOD_SHARE))


def label(files: Path, labels: Path, log: Path) -> tuple[int, float, dict[str, float]]:
    """Run the job as a process of its own; exit code, wall time, peak memory by process."""
    command = [sys.executable, "-m", "pipelines.label", str(files), "--labels", str(labels)]
    started = time.monotonic()
    with (
        log.open("wb") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as job,
        MemoryWatch(job.pid) as watch,
    ):
        exit_code = job.wait()
    seconds = time.monotonic() - started
    peaks = {f"{watch.names.get(pid, '?')[:100]} [{pid}]": peak for pid, peak in watch.peak_mb.items()}
    return exit_code, seconds, peaks


def faults(names: set[str], rows: Iterable[dict[str, Any]]) -> list[str]:
    """Where the table does not account for every file exactly once."""
    found = []
    counts = Counter(row["track_id"] for row in rows)
    found += [f"no row: {name}" for name in sorted(names - counts.keys())]
    found += [f"no such file: {name}" for name in sorted(counts.keys() - names)]
    found += [f"{count} rows: {name}" for name, count in counts.items() if count > 1]
    for row in rows:
        labelled = row["status"] == "labeled" and row["genre_top"] and not row["error_kind"]
        quarantined = row["status"] == "quarantined" and row["error_kind"] and not row["genre_top"]
        if not (labelled or quarantined):
            found.append(f"neither labelled nor quarantined: {row['track_id']} ({row['status']}, {row['error_kind']})")
        if row["track_id"].startswith(f"{GOOD}/") and (not labelled or row["damage"]):
            found.append(f"a good file suffers: {row['track_id']} ({row['error_kind'] or row['damage']})")
        if "unexpected" in (row["error_message"] or ""):
            found.append(f"an error that decode does not know: {row['track_id']} ({row['error_message']})")
    return found


def measure(out: Path, count: int, seed: int) -> Outcome:
    """Write the files, label them, look at the table."""
    names = write_files(out / "files", count, seed)
    exit_code, seconds, peak_mb = label(out / "files", out / "labels", out / "job.log")
    rows: list[dict[str, Any]] = []
    found = []
    if DeltaTable.is_deltatable(str(out / "labels")):
        columns = ["track_id", "status", "genre_top", "error_kind", "error_message", "damage", "duration_seconds"]
        rows = DeltaTable(str(out / "labels")).to_pyarrow_table(columns=columns).to_pylist()
    else:
        found.append("there is no labels table")
    found += faults(names, rows)
    if exit_code:
        found.append(f"the job ended with exit code {exit_code}; see job.log")
    return Outcome(exit_code, seconds, found, rows, peak_mb)


def show(outcome: Outcome, console: Console) -> None:
    """Print what was done to the files against what became of them, and what the run took."""
    became: dict[str, Counter[str]] = {}
    for row in outcome.rows:
        result = row["error_kind"] or ("labeled, damage seen" if row["damage"] else "labeled")
        became.setdefault(row["track_id"].partition("/")[0], Counter())[result] += 1
    results = sorted({result for counts in became.values() for result in counts}, key=lambda r: (r[:7] != "labeled", r))
    table = Table(title="What was done to a file, and what became of it")
    table.add_column("damage")
    for result in results:
        table.add_column(result, justify="right")
    for damage, counts in sorted(became.items()):
        table.add_row(damage, *(str(counts[result] or "") for result in results))
    total = sum(became.values(), Counter())
    table.add_section()
    table.add_row(f"all {total.total()}", *(str(total[result]) for result in results))
    console.print(table)
    workers = {name: peak for name, peak in outcome.peak_mb.items() if name.startswith(LISTEN)}
    for name, peak in sorted(workers.items()):
        console.print(f"{name}: {peak:.0f} MB at most", markup=False)
    console.print(
        f"exit code {outcome.exit_code}, {outcome.seconds:.0f} s of wall time, largest decoding process "
        f"{max(workers.values(), default=0):.0f} MB, largest of all {max(outcome.peak_mb.values(), default=0):.0f} MB"
    )
    for fault in outcome.faults[:50]:
        console.print(f"FAULT {fault}", markup=False)


@click.command()
@click.option("--files", "count", type=click.IntRange(1), default=2000, show_default=True, help="Damaged files.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A folder to be made.")
@click.option("--keep/--no-keep", default=False, help="Keep the audio files (10 MB for each of one damage in 25).")
def main(count: int, seed: int, out: Path, keep: bool) -> None:
    """Label damaged files, and see that none is lost."""
    if out.exists() and any(out.iterdir()):
        raise click.UsageError(f"{out} is not empty")
    out.mkdir(parents=True, exist_ok=True)
    outcome = measure(out.resolve(), count, seed)
    show(outcome, Console(width=160))
    facts = {"files": len(outcome.rows), "faults": len(outcome.faults), "seconds": round(outcome.seconds, 1)}
    click.echo(json.dumps(facts))
    if not keep:
        shutil.rmtree(out / "files")
    sys.exit(1 if outcome.faults else 0)


if __name__ == "__main__":
    main()
