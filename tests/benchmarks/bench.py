"""`make bench`: speed and memory of the front end, on one core. BENCHMARKS.md says what each name means."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.benchmarks.one_core import pin
from tests.benchmarks.result import Result

# The measurements are imported where they are used: NumPy and torch must find the settings of `pin`.


def _front_end(data: Path | None, rounds: int, say: Callable[[str], None]) -> list[Result]:
    from tests.benchmarks import front_end_speed, music

    clips = music.thirty_seconds(data)
    say(f"front end: {clips.origin}, MP3, 44.1 kHz, stereo, 256 kbit/s; {rounds} rounds")
    return front_end_speed.measure(clips.files, rounds)


def _memory(data: Path | None, rounds: int, say: Callable[[str], None]) -> list[Result]:
    from tests.benchmarks import worker_memory

    say(f"worker's memory: {worker_memory.FILES} files of the synthetic corpus, whole and damaged, one of five hours")
    return worker_memory.measure()


def _excerpts(data: Path | None, rounds: int, say: Callable[[str], None]) -> list[Result]:
    from tests.benchmarks import excerpt_speed, music

    track = music.four_minutes(data)
    say(f"excerpts: {track.origin}, 4 minutes of MP3, 44.1 kHz, stereo, 256 kbit/s; {rounds} rounds")
    return excerpt_speed.measure(track.files[0], rounds)


MEASUREMENTS = {
    "front_end_over_decode": _front_end,
    "habit_over_front_end": _front_end,
    "excerpt_speedup": _excerpts,
    "excerpt_bytes_share": _excerpts,
    "worker_rss_growth_mb": _memory,
}
"""Which measurement gives a name; one may give several."""


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(MEASUREMENTS)), help="Measure this; may be repeated.")
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True, help="Times that each is measured.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="MGC_TEST_DATA",
    help="Folder whose music/*.ogg is listened to [default: MGC_TEST_DATA]; without it, the synthetic corpus.",
)
def main(only: tuple[str, ...], rounds: int, data: Path | None) -> None:
    """Measure, print a table, write bench.json ({name: value}) here."""
    core = pin()
    console = Console(stderr=True)
    names = only or tuple(MEASUREMENTS)
    console.print(f"core {core}, load {os.getloadavg()[0]:.2f}: other work on this machine blurs what follows")
    results = []
    for measurement in dict.fromkeys(MEASUREMENTS[name] for name in names):
        results += measurement(data, rounds, lambda line: console.print(line, markup=False))
    table = Table("name", "value", "aim", "seen")
    for result in results:
        if result.name in names:
            table.add_row(result.name, f"{result.value:.3f}", result.aim, result.detail)
    Console(width=None if console.is_terminal else 160).print(table)
    values = {result.name: round(result.value, 4) for result in results if result.name in names}
    Path("bench.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    console.print("wrote bench.json")


if __name__ == "__main__":
    main()
