"""The label job against a bare loop over its stages, a librosa pool, and Daft: tracks a second on every core.

    python -m tests.benchmarks.label.label_speed --data FOLDER

Each way is a program that is timed from its start to its end, on a small catalog and on a large one: what the larger
one takes more is tracks, what is left is start-up, stated apart. In a round every way labels both catalogs, in another
order each time; a ratio is that of the same round, its median is the result. The ways take turns, they do not run at
the same moment: two of them on the same cores would slow each other by what they happen to do just then.

The tracks of a catalog are hard links to a few files, which the page cache holds after the first: what is measured is
computing, not the disk. The label job is the whole command: plan, stage, commit, report.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import click
import pyarrow.dataset as pads

from cluster.labels.table import LabelsTable
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.tables.catalog import write_catalog
from mgc.bundle_names import BundleName
from pipelines.catalogs.sources import list_source
from tests.benchmarks import music
from tests.benchmarks.apart import ALL_CORES, facts_of
from tests.benchmarks.label.daft_environment import NoDaftError, python_with_daft
from tests.benchmarks.options import DATA
from tests.benchmarks.result import Result, hand_over, say
from tests.support.object_store import running

JOB, DAFT = "label", "daft"
Way = Literal["label", "bare", "isolated", "librosa_pool", "daft"]
CATALOG: Final = "catalog.parquet"
TRACKS_OF_A_FOLDER: Final = 1000
LEAST_AGREEMENT: Final = 0.8
"""Ways that hear the same seconds must agree so often on the genre, or they did other work."""


@dataclass(frozen=True)
class Catalog:
    """A catalog to label.

    Attributes:
        uri: of its Parquet file.
        tracks: how many it has.
    """

    uri: str
    tracks: int


@dataclass(frozen=True)
class Times:
    """Seconds of one way in one round.

    Attributes:
        small: for the small catalog.
        large: for the large one.
        tracks: in the small and in the large catalog.
    """

    small: float
    large: float
    tracks: tuple[int, int]

    @property
    def rate(self) -> float:
        """Tracks a second once it runs; not a number where the start-up varied more than the tracks took."""
        seconds = self.large - self.small
        return (self.tracks[1] - self.tracks[0]) / seconds if seconds > 0 else math.nan

    @property
    def start_up(self) -> float:
        """Seconds that do not grow with the tracks."""
        return self.small - self.tracks[0] / self.rate


class Ways:
    """Labels catalogs in every way there is.

    Args:
        folder: for what they write.
        bundle: URI of the model.
        daft_python: the interpreter that has Daft, if there is one.
        environment: further variables.
    """

    def __init__(
        self, folder: Path, bundle: str, daft_python: str | None = None, environment: dict[str, str] | None = None
    ) -> None:
        self._folder = folder
        self._bundle = bundle
        self._daft_python = daft_python
        # A cluster that the person's environment names is not what is measured.
        self._environment = {"RAY_ADDRESS": "", **(environment or {})}
        self._runs = 0
        self.genres: dict[str, dict[str, str]] = {}

    def seconds(self, way: Way, catalog: Catalog) -> float:
        """Wall time of a way from its start to its end."""
        self._runs += 1
        out = self._folder / f"{way}-{self._runs}"
        begun = time.perf_counter()
        if way == JOB:
            arguments = [catalog.uri, "--labels", str(out), "--bundle", self._bundle]
            # A few recordings under many names are no catalog's mix of genres: the job ends with alarms.
            facts_of("pipelines.label", arguments, environment=self._environment, good=(0, 3))
        elif way == DAFT:
            assert self._daft_python is not None
            arguments = [catalog.uri, str(out), self._bundle]
            module = "tests.benchmarks.label.label_by_daft"
            facts_of(module, arguments, environment=self._environment, python=self._daft_python)
        else:
            arguments = [way, catalog.uri, str(out), self._bundle]
            facts_of("tests.benchmarks.label.labelers", arguments, environment=self._environment)
        seconds = time.perf_counter() - begun
        self._check(way, out, catalog)
        return seconds

    def _check(self, way: Way, out: Path, catalog: Catalog) -> None:
        labels = LabelsTable(Uri.of_path(out)).dataset() if way == JOB else pads.dataset(out, format="parquet")
        rows = labels.to_table(columns=["track_id", "genre_top"])
        genres = dict(zip(rows["track_id"].to_pylist(), rows["genre_top"].to_pylist(), strict=True))
        if len(genres) != catalog.tracks or rows.num_rows != catalog.tracks or None in genres.values():
            raise ValueError(f"{way} labelled {len(genres)} of {catalog.tracks} tracks")
        self.genres[way] = genres

    def agreement(self, way: Way) -> float:
        """How often a way gave the same genre as the label job, in their last runs."""
        one, other = self.genres[JOB], self.genres[way]
        both = one.keys() & other.keys()
        return sum(one[track] == other[track] for track in both) / len(both)


def make_catalog(folder: Path, files: Sequence[bytes], tracks: int) -> Catalog:
    """So many tracks: a few files under many names, in folders of up to a thousand."""
    audio, written = folder / "audio", list[Path]()
    for number in range(tracks):
        path = audio / f"{number // TRACKS_OF_A_FOLDER:03d}" / f"{number:06d}.mp3"
        if number % TRACKS_OF_A_FOLDER == 0:
            path.parent.mkdir(parents=True)
        if number < len(files):
            path.write_bytes(files[number])
            written.append(path)
        else:
            path.hardlink_to(written[number % len(files)])
    return _indexed(str(audio), str(folder / CATALOG), tracks)


def _indexed(source: str, uri: str, tracks: int) -> Catalog:
    table, _ = list_source(Uri.parse(source))
    if table.num_rows != tracks:
        raise ValueError(f"{source}: {table.num_rows} of {tracks} tracks listed")
    write_catalog(Uri.parse(uri), [table], roots=[Uri.parse(source)])
    return Catalog(uri, tracks)


def time_in_turn(
    ways: Ways, names: Sequence[Way], catalogs: tuple[Catalog, Catalog], rounds: int, title: str
) -> dict[Way, list[Times]]:
    """Every way over both catalogs, in each round in another order."""
    small, large = catalogs
    found: dict[Way, list[Times]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in [*names[shift:], *names[:shift]]:
            seconds = [ways.seconds(name, catalog) for catalog in catalogs]
            times = Times(seconds[0], seconds[1], (small.tracks, large.tracks))
            found[name].append(times)
            sizes = f"{small.tracks} tracks {times.small:.1f} s, {large.tracks} {times.large:.1f} s"
            say(
                f"{title}, round {number + 1} of {rounds}: {name} {times.rate:.1f} tracks/s, start-up "
                f"{times.start_up:.1f} s ({sizes})"
            )
    return found


def compare(name: str, times: dict[Way, list[Times]], way: Way, other: Way, aim: str, remark: str = "") -> Result:
    """How many times the rate of another way one has, in the same round."""
    ratios = [one.rate / two.rate for one, two in zip(times[way], times[other], strict=True)]
    if any(map(math.isnan, ratios)):
        return Result(name, None, aim, "the start-up varied more than the tracks took: a larger --scale is needed")
    whole = statistics.median(two.large / one.large for one, two in zip(times[way], times[other], strict=True))
    return Result(
        name,
        statistics.median(ratios),
        aim,
        f"{_seen(times, way)} over {_seen(times, other)}; rounds {min(ratios):.2f} to {max(ratios):.2f}; start-up "
        f"included, of {times[way][0].tracks[1]} tracks, {whole:.2f}{remark}",
    )


def _seen(times: dict[Way, list[Times]], way: Way) -> str:
    rate, start_up = (statistics.median(getattr(each, name) for each in times[way]) for name in ("rate", "start_up"))
    return f"{way} {rate:.1f} tracks/s (start-up {start_up:.1f} s)"


def short_tracks(
    folder: Path, data: Path | None, sizes: tuple[int, int], rounds: int, bundle: str, daft: Path
) -> list[Result]:
    """`label_efficiency`, `label_over_librosa_pool`, `label_over_daft`: tracks of 30 s in local files."""
    clips = music.thirty_seconds(data)
    say(f"{clips.origin}, as {sizes[0]} and {sizes[1]} tracks; {len(ALL_CORES)} cores; {rounds} rounds")
    names: list[Way] = ["label", "bare", "isolated", "librosa_pool"]
    no_daft, python = "", None
    try:
        python = python_with_daft(daft, say)
        names.append("daft")
    except NoDaftError as reason:
        no_daft = str(reason)
        say(f"no Daft: {no_daft}")
    catalogs = _two(lambda size: make_catalog(folder / f"short-{size}", clips.files, size), sizes)
    ways = Ways(folder, bundle, python)
    times = time_in_turn(ways, names, catalogs, rounds, "30 s")
    apart = compare("", times, "label", "isolated", "").value or math.nan
    results = [
        compare(
            "label_efficiency",
            times,
            "label",
            "bare",
            "at least 0.85",
            f"; against a loop with decoders in child processes, as the job has them, {apart:.2f}",
        ),
        compare(
            "label_over_librosa_pool", times, "label", "librosa_pool", "at least 1.5", _agreeing(ways, "librosa_pool")
        ),
    ]
    if python is None:
        return [*results, Result("label_over_daft", None, "at least 1.2", f"not measured: {no_daft}")]
    return [*results, compare("label_over_daft", times, "label", "daft", "at least 1.2", _agreeing(ways, "daft"))]


def _agreeing(ways: Ways, way: Way) -> str:
    agreement = ways.agreement(way)
    if agreement < LEAST_AGREEMENT:
        raise ValueError(f"{way} gives the job's genre for {agreement:.0%} of the tracks only: it does other work")
    return f"; the same genre for {agreement:.0%}"


def long_tracks(folder: Path, data: Path | None, sizes: tuple[int, int], rounds: int, bundle: str) -> list[Result]:
    """`untrimmed_over_librosa_pool`: tracks of 4 minutes; the pool reads them whole, the job what its plan hears."""
    track = music.four_minutes(data)
    say(f"{track.origin}, 4 minutes, as {sizes[0]} and {sizes[1]} tracks; {rounds} rounds")
    catalogs = _two(lambda size: make_catalog(folder / f"long-{size}", track.files, size), sizes)
    ways = Ways(folder, bundle)
    times = time_in_turn(ways, ["label", "librosa_pool"], catalogs, rounds, "4 minutes")
    return [compare("untrimmed_over_librosa_pool", times, "label", "librosa_pool", "at least 7")]


def through_store(folder: Path, data: Path | None, sizes: tuple[int, int], rounds: int, bundle: str) -> list[Result]:
    """`label_efficiency_store`: as `label_efficiency`, but both fetch from an object store on the same cores."""
    clips = music.thirty_seconds(data)
    with running(folder / "store") as store, _environment(store.environment()):
        bucket = store.make_bucket()
        say(f"object store: {clips.origin}, as {sizes[0]} and {sizes[1]} tracks; {rounds} rounds")
        for number in range(sizes[1]):
            for size in sizes:
                if number < size:
                    uri = f"s3://{bucket}/{size}/{number:06d}.mp3"
                    files.write_bytes(Uri.parse(uri), clips.files[number % len(clips.files)])
        catalogs = _two(
            lambda size: _indexed(f"s3://{bucket}/{size}", str(folder / f"store-{size}.parquet"), size), sizes
        )
        times = time_in_turn(Ways(folder, bundle), ["label", "bare"], catalogs, rounds, "object store")
    remark = "; the store serves from the same cores, so this says what a laptop does, not what a cluster would"
    return [compare("label_efficiency_store", times, "label", "bare", "none: see right", remark)]


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {**variables, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _two(make: Callable[[int], Catalog], sizes: tuple[int, int]) -> tuple[Catalog, Catalog]:
    return make(sizes[0]), make(sizes[1])


PARTS: Final = ("short", "long", "store")
_SIZES: Final = {"short": (150, 1500), "long": (16, 160), "store": (60, 600)}


@click.command()
@click.option(
    "--only", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS, help="Measure this; may be repeated."
)
@DATA
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Times that each is measured; through the object store, once.",
)
@click.option(
    "--scale",
    type=click.FloatRange(0.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Of the catalogs, to try this out.",
)
@click.option("--bundle", default=BundleName.SHIPPED.value, show_default=True, help="The model; one on thumbnails.")
@click.option(
    "--daft",
    type=click.Path(path_type=Path),
    default="outputs/bench/daft",
    show_default=True,
    help="Where Daft's environment is, or is made.",
)
def main(parts: tuple[str, ...], data: Path | None, rounds: int, scale: float, bundle: str, daft: Path) -> None:
    """Tracks a second of the label job and of other ways. The last line is JSON."""
    sizes = {part: (max(2, round(pair[0] * scale)), max(20, round(pair[1] * scale))) for part, pair in _SIZES.items()}
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mgc-label-speed-") as name:
        folder = Path(name)
        if "short" in parts:
            results += short_tracks(folder, data, sizes["short"], rounds, bundle, daft.absolute())
        if "long" in parts:
            results += long_tracks(folder, data, sizes["long"], rounds, bundle)
        if "store" in parts:
            results += through_store(folder, data, sizes["store"], 1, bundle)
    hand_over(results)


if __name__ == "__main__":
    main()
