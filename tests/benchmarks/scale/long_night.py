"""A night of 100,000 tracks on this machine: killed once in its middle, run again, and followed by one without work.

    python -m tests.benchmarks.scale.long_night --data FOLDER --tracks 100000 --out FOLDER

The tracks are hard links to some hundreds of short clips of real recordings. What is looked at is what could grow with
the number of tracks: time, CPU and memory, files, commits. Exit code 1 says that something is wrong that does not
depend on the machine's speed: rows are missing, there is a second commit, processes outlive a killed driver, files pile
up.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from cluster.streams.predicting import STAGED_FILES
from mgc.bundle_names import BundleName
from mgc.recipes.catalogue import RECIPES
from tests.benchmarks import music
from tests.benchmarks.label.label_speed import make_catalog
from tests.benchmarks.options import DATA
from tests.benchmarks.result import say
from tests.benchmarks.scale.night import Place, Run, run
from tests.benchmarks.scale.tenths import Tenth, driver_cost, tenths
from tests.benchmarks.scale.watch import Kept, kept_in
from tests.support.bundles.untrained import untrained

CLIP_SECONDS: Final = 3.2
"""The shipped bundle labels nothing below 3 s."""

LOOK_SECONDS: Final = 3.0
EMPTY_LOOK_SECONDS: Final = 0.2

_MORE_FILES: Final = 1.5
"""How many times the files of an early tenth a late one may have."""

_SOME_FILES: Final = 30
"""Files that may come on top: a worker that is started again opens three logs."""

_DONE: Final = (0, 3)
"""Exit codes of a night that committed. Clips of a few recordings are no catalog's mix of genres, so it has alarms."""


@dataclass(frozen=True)
class Outcome:
    """What is there after both nights.

    Attributes:
        staged: rows that the killed driver had staged.
        commits: entries of the table's log.
        rows: of the table.
        tracks: different ones among them.
        unanswered: rows without a genre and without a reason.
        quarantined: rows with a reason.
        report_bytes: size of the night's report.
        left_by_killed: files of Ray's session that the killed driver left.
        left: files in TMPDIR and of Ray's sessions after both nights.
        empty_commits: entries of the table's log after the night without work.
    """

    staged: int
    commits: int
    rows: int
    tracks: int
    unanswered: int
    quarantined: int
    report_bytes: int
    left_by_killed: Kept
    left: Kept
    empty_commits: int


def staged_rows(labels: Path) -> int:
    """Rows that a run has staged."""
    return sum(pq.read_metadata(path).num_rows for path in labels.glob("_runs/*/staged/*.parquet"))


def commits(labels: Path) -> int:
    """Entries of a table's log."""
    return len(list(labels.glob("_delta_log/*.json")))


def nights(place: Place, tracks: int) -> tuple[Run, Run, Run, Outcome]:
    """Run the killed night, the night that goes on, and the one without work."""
    first = run(place, LOOK_SECONDS, kill_at=tracks // 2)
    staged, left_by_killed = staged_rows(place.labels), kept_in(place.ray)
    second = run(place, LOOK_SECONDS)
    after, left = commits(place.labels), Kept(0, 0)
    third = run(place, EMPTY_LOOK_SECONDS)
    for folder in (place.temporary, place.ray):
        kept = kept_in(folder)
        left = Kept(left.files + kept.files, left.size_bytes + kept.size_bytes)
    rows = LabelsTable(Uri.of_path(place.labels)).dataset().to_table(columns=["track_id", "genre_top", "error_kind"])
    answered = [genre is not None for genre in rows["genre_top"].to_pylist()]
    reasons = [kind is not None for kind in rows["error_kind"].to_pylist()]
    outcome = Outcome(
        staged=staged,
        commits=after,
        rows=rows.num_rows,
        tracks=len(set(rows["track_id"].to_pylist())),
        unanswered=sum(not (genre or reason) for genre, reason in zip(answered, reasons, strict=True)),
        quarantined=sum(reasons),
        report_bytes=(place.labels / "_reports" / "latest.html").stat().st_size,
        left_by_killed=left_by_killed,
        left=left,
        empty_commits=commits(place.labels),
    )
    return first, second, third, outcome


def faults(tracks: int, runs: Sequence[Run], halves: Sequence[Sequence[Tenth | None]], outcome: Outcome) -> list[str]:
    """What is wrong, whatever the machine's speed."""
    first, second, third = runs
    found = []
    if first.killed is None:
        found.append(f"the first job ended with {first.code} before it was to be killed")
    elif first.killed.left:
        found.append(f"outlived the killed driver: {', '.join(first.killed.left)}")
    if second.code not in _DONE:
        found.append(f"the night ended with {second.code}")
    if third.code != 0:
        found.append(f"the night without work ended with {third.code}")
    if (outcome.commits, outcome.empty_commits) != (1, 1):
        found.append(f"{outcome.commits} commits, {outcome.empty_commits} after the night without work")
    if (outcome.rows, outcome.tracks, outcome.unanswered) != (tracks, tracks, 0):
        found.append(f"{outcome.rows} rows of {outcome.tracks} tracks, {outcome.unanswered} without an answer")
    for half in halves:
        known = [tenth for tenth in half if tenth is not None]
        for name in ("temporary_files", "session_files"):
            counts = [getattr(tenth, name) for tenth in known]
            if counts and counts[-1] > _MORE_FILES * counts[0] + _SOME_FILES:
                found.append(f"{name}: {counts[0]} grew to {counts[-1]}")
        # What is staged, what an earlier job staged, the plan and what of it was left.
        found += [f"{tenth.run_files} staged files" for tenth in known if tenth.run_files > 3 * STAGED_FILES]
    return found


def show(tracks: int, runs: Sequence[Run], halves: Sequence[Sequence[Tenth | None]], outcome: Outcome) -> None:
    """Print what was seen, for a person."""
    console = Console(stderr=True, width=200)
    night = [one or other for one, other in zip(*halves, strict=True)]
    kinds = sorted({kind for tenth in night if tenth is not None for kind in tenth.own_mb})
    table = Table("tenth", "tracks/s", "CPU ms", "of it driver", *(f"{kind} MB" for kind in kinds), "store MB", "files")
    for number, tenth in enumerate(night, 1):
        if tenth is None:
            table.add_row(str(number), "none")
            continue
        own = [f"{tenth.own_mb[kind]:.0f}" if kind in tenth.own_mb else "" for kind in kinds]
        files = f"{tenth.temporary_files} + {tenth.session_files} + {tenth.run_files}"
        rate = (f"{tenth.tracks_per_second:.1f}", f"{tenth.cpu_ms:.2f}", f"{tenth.driver_ms:.2f}")
        table.add_row(str(number), *rate, *own, f"{tenth.store_mb:.0f}", files)
    console.print(table)
    first, second, third = runs
    if (killed := first.killed) is not None:
        ended = ", ".join(
            f"{kind} {seconds:.1f}" for kind, seconds in sorted(killed.ended.items(), key=lambda each: each[1])
        )
        say(
            f"killed after {killed.tracks} tracks, {killed.tracks - outcome.staged} of them heard twice; of "
            f"{killed.processes} processes {len(killed.left)} are left, the last ended after (s): {ended}; Ray's "
            f"session has {outcome.left_by_killed.files} files, {outcome.left_by_killed.size_bytes / 1e6:.1f} MB"
        )
    for name, each in (("killed", first), ("went on", second), ("without work", third)):
        start = "none" if each.first_track_seconds is None else f"{each.first_track_seconds:.0f} s"
        most = max((look.driver_most_mb for look in each.looks), default=0.0)
        say(
            f"{name}: exit code {each.code}, {each.seconds:.1f} s, first tracks after {start}, "
            f"{each.seconds - each.last_track_seconds:.1f} s after the last; driver {most:.0f} MB at most"
        )
        if (cost := driver_cost(each.moments, tracks)) is not None:
            say(f"its driver took {cost.ms_a_second:.0f} ms of CPU a second and {cost.ms_a_track:.2f} ms a track")
    say(
        f"{outcome.rows} rows of {tracks} tracks, {outcome.quarantined} quarantined, {outcome.commits} commit(s); "
        f"report {outcome.report_bytes / 1e6:.2f} MB; {outcome.left.files} files left, "
        f"{outcome.left.size_bytes / 1e6:.1f} MB"
    )


def _bundle(bundle: str, recipe: str | None, folder: Path) -> str:
    """The URI of the model; that of a recipe is made."""
    if recipe is None:
        return bundle
    untrained(RECIPES[recipe]).save(folder / "bundle")
    return str(folder / "bundle")


@click.command()
@DATA
@click.option("--tracks", type=click.IntRange(100), default=100_000, show_default=True, help="Of the catalog.")
@click.option("--clips", type=click.IntRange(2), default=400, show_default=True, help="Different clips among them.")
@click.option("--bundle", default=BundleName.SHIPPED.value, show_default=True, help="The model.")
@click.option("--recipe", type=click.Choice(sorted(RECIPES)), help="Instead, an untrained network of this recipe.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="New folder for all that is made."
)
def main(data: Path | None, tracks: int, clips: int, bundle: str, recipe: str | None, out: Path) -> None:
    """Label a long catalog in one night. The table goes to stderr, long_night.json to the folder."""
    out.mkdir(parents=True)
    heard = music.short_clips(data, clips, CLIP_SECONDS)
    say(f"{heard.origin}, {tracks} tracks; load {os.getloadavg()[0]:.2f}")
    catalog = make_catalog(out / "catalog", heard.files, tracks)
    (out / "tmp").mkdir()
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as ray:
        place = Place(catalog.uri, out / "labels", _bundle(bundle, recipe, out), out / "tmp", Path(ray))
        first, second, third, outcome = nights(place, tracks)
    runs = (first, second, third)
    halves = [
        tenths(first.moments, first.looks, 0, tracks),
        tenths(second.moments, second.looks, outcome.staged, tracks),
    ]
    show(tracks, runs, halves, outcome)
    wrong = faults(tracks, runs, halves, outcome)
    facts = {"tracks": tracks, "clips": heard.origin, "model": recipe or bundle, "load": os.getloadavg()[0]}
    facts |= {"outcome": dataclasses.asdict(outcome), "faults": wrong}
    facts |= {"tenths": [[each and dataclasses.asdict(each) for each in half] for half in halves]}
    facts |= {"runs": [dataclasses.asdict(each) for each in runs]}
    (out / "long_night.json").write_text(json.dumps(facts))
    for fault in wrong:
        say(f"fault: {fault}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
