"""`make bench`: the front end on one core; labelling, excerpts, training and the planning of nights on every core.

BENCHMARKS.md says what each name means.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from tests.benchmarks.apart import ApartError, facts_of
from tests.benchmarks.front_end.one_core import pin
from tests.benchmarks.label.changes import CHANGES, TOTAL
from tests.benchmarks.options import DATA
from tests.benchmarks.result import Result, show

# The measurements are imported where they are used: NumPy and torch must find the settings of `pin`.


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Attributes:
        data: folder of music.
        rounds: of what takes a second.
        long_rounds: of whole jobs and nights.
        say: a line for the person who watches.
    """

    data: Path | None
    rounds: int
    long_rounds: int
    say: Callable[[str], None]


def _front_end(asked: Asked) -> list[Result]:
    from tests.benchmarks import music
    from tests.benchmarks.front_end import front_end_speed

    clips = music.thirty_seconds(asked.data)
    asked.say(f"front end: {clips.origin}, MP3, 44.1 kHz, stereo, 256 kbit/s; {asked.rounds} rounds")
    return front_end_speed.measure(clips.files, asked.rounds)


def _memory(asked: Asked) -> list[Result]:
    from tests.benchmarks.label import worker_memory

    asked.say(
        f"worker's memory: {worker_memory.FILES} files of the synthetic corpus, whole and damaged, one of five hours"
    )
    return worker_memory.measure()


def _graphs(asked: Asked) -> list[Result]:
    from tests.benchmarks.label import graph_speed

    asked.say(f"networks as graphs: {graph_speed.TRACKS} tracks of noise; {asked.rounds} rounds")
    return graph_speed.measure(asked.rounds)


def _excerpts(asked: Asked) -> list[Result]:
    from tests.benchmarks import music
    from tests.benchmarks.front_end import excerpt_speed

    track = music.four_minutes(asked.data)
    asked.say(f"excerpts: {track.origin}, 4 minutes of MP3, 44.1 kHz, stereo, 256 kbit/s; {asked.rounds} rounds")
    return excerpt_speed.measure(track.files[0], asked.rounds)


def _apart(asked: Asked, module: str, *arguments: str, music: bool = True) -> list[Result]:
    """A measurement that has a program of its own, and wants every core."""
    options = [*arguments, "--rounds", str(asked.long_rounds)]
    if music and asked.data is not None:
        options += ["--data", str(asked.data.absolute())]
    found = facts_of(f"tests.benchmarks.{module}", options, say=asked.say)
    return [Result(**each) for each in found]


def _short_tracks(asked: Asked) -> list[Result]:
    return _apart(asked, "label.label_speed", "--only", "short")


def _steady(asked: Asked) -> list[Result]:
    return _apart(asked, "label.label_steady")


def _long_tracks(asked: Asked) -> list[Result]:
    return _apart(asked, "label.label_speed", "--only", "long")


def _through_store(asked: Asked) -> list[Result]:
    return _apart(asked, "label.label_speed", "--only", "store")


def _agreement(asked: Asked) -> list[Result]:
    return _apart(asked, "front_end.excerpts_agree")


def _stability(asked: Asked) -> list[Result]:
    if asked.data is None:
        return [Result(name, None, "at least 0.97", "real music only: give --data") for name in STABILITY]
    options = ["--data", str(asked.data.absolute())]
    found = facts_of("tests.benchmarks.label.label_stability", options, say=asked.say)
    return [Result(**each) for each in found]


def _train_feed(asked: Asked) -> list[Result]:
    return _apart(asked, "training.train_feed", music=False)


def _probe(asked: Asked) -> list[Result]:
    return _apart(asked, "training.probe_speed", music=False)


def _night_1m(asked: Asked) -> list[Result]:
    return _apart(asked, "catalogs.night_scale", "--rows", "1000000", "--no-commits", music=False)


def _night_10m(asked: Asked) -> list[Result]:
    return _apart(asked, "catalogs.night_scale", "--rows", "10000000", music=False)


STABILITY = (TOTAL, *(change.result for change in CHANGES))

MEASUREMENTS: dict[str, Callable[[Asked], list[Result]]] = {
    "front_end_over_decode": _front_end,
    "thumbnail_over_decode": _front_end,
    "kaldi_mel_over_decode": _front_end,
    "habit_over_front_end": _front_end,
    "excerpt_speedup": _excerpts,
    "excerpt_bytes_share": _excerpts,
    "worker_rss_growth_mb": _memory,
    "mn04_graph_speedup": _graphs,
    "shipped_graph_speedup": _graphs,
    "label_efficiency": _short_tracks,
    "label_over_librosa_pool": _short_tracks,
    "label_over_daft": _short_tracks,
    "label_startup_seconds": _steady,
    "label_cpu_over_decode": _steady,
    "mn04_cpu_over_decode": _steady,
    "label_efficiency_store": _through_store,
    "untrimmed_over_librosa_pool": _long_tracks,
    "excerpts_throughput_ratio": _agreement,
    "excerpts_bytes_share": _agreement,
    "excerpts_agreement": _agreement,
    **dict.fromkeys(STABILITY, _stability),
    "train_feed_ratio": _train_feed,
    "probe_10k_seconds": _probe,
    "plan_1m_seconds": _night_1m,
    "plan_10m_seconds": _night_10m,
    "plan_10m_gib": _night_10m,
    "commit_10m_seconds": _night_10m,
}
"""Which measurement gives a name; one may give several."""


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(MEASUREMENTS)), help="Measure this; may be repeated.")
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True, help="Times that each is measured.")
@click.option(
    "--long-rounds", type=click.IntRange(1), default=3, show_default=True, help="Times for whole jobs and nights."
)
@DATA
def main(only: tuple[str, ...], rounds: int, long_rounds: int, data: Path | None) -> None:
    """Measure, print a table, write bench.json ({name: value}) here."""
    core = pin()
    console = Console(stderr=True)
    names = only or tuple(MEASUREMENTS)
    console.print(f"core {core}, load {os.getloadavg()[0]:.2f}: other work on this machine blurs what follows")
    results, failed = [], False
    asked = Asked(data, rounds, long_rounds, lambda line: console.print(line, markup=False, soft_wrap=True))
    for measurement in dict.fromkeys(MEASUREMENTS[name] for name in names):
        wanted = [name for name in names if MEASUREMENTS[name] is measurement]
        try:
            results += [result for result in measurement(asked) if result.name in wanted]
        except ApartError as error:
            # The others take half an hour, and are as good as before.
            asked.say(str(error))
            failed = True
            results += [Result(name, None, "", "it failed, as told above") for name in wanted]
    show(results, Console(width=None if console.is_terminal else 160))
    values = {result.name: round(result.value, 4) for result in results if result.value is not None}
    Path("bench.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    console.print("wrote bench.json")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
