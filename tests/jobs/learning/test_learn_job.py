"""`mgc learn` on a real Ray: from tags to labels, once, and again with one file more."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from mutagen.flac import FLAC

from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from mgc.errors import TrainingError
from pipelines.learning.guard import find_losses
from pipelines.learning.learn import learn
from pipelines.learning.requests import LearnRequest
from tests.damage.sound import make_sound

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

RATE_HZ = 22_050
BRIGHT, DARK = "Jazz", "Hip-Hop/Rap"


def write(path: Path, seed: int, genre: str | None, dark: bool) -> None:
    """A FLAC file of one of two kinds of sound, and what its tags say."""
    wave_T = make_sound(seed, 8.0, RATE_HZ)
    if dark:
        # Nothing above 500 Hz is left.
        spectrum_F = np.fft.rfft(wave_T)
        spectrum_F[np.fft.rfftfreq(len(wave_T), 1 / RATE_HZ) > 500] = 0
        wave_T = np.fft.irfft(spectrum_F, len(wave_T))
    soundfile.write(path, 0.5 * wave_T / np.abs(wave_T).max(), RATE_HZ, format="FLAC")
    tags = FLAC(path)
    tags["artist"] = f"artist {seed}"
    if genre is not None:
        tags["genre"] = genre
    tags.save()


def test_tags_teach_and_the_untagged_are_labelled(ray_session: Profile, tmp_path: Path) -> None:
    music, out = tmp_path / "music", tmp_path / "learned"
    music.mkdir()
    for number in range(12):
        dark = number % 2 == 1
        write(music / f"{number:02}.flac", number, None if number >= 10 else (DARK if dark else BRIGHT), dark)
    (music / "none.mp3").write_bytes(b"no music at all" * 100)
    request = LearnRequest(Uri.of_path(music), Uri.of_path(out), BundleName.SHIPPED, profile=ray_session)
    made = learn(request)
    assert (made.status, made.counts["by_tag"], made.counts["by_ears"]) == ("done", 10, 2)
    assert made.counts["without_label"] == 1
    rows = {row["track_id"]: row for row in pq.read_table(out / "labels.parquet").to_pylist()}
    assert {name: rows[name]["genre_top"] for name in ("00.flac", "01.flac", "10.flac", "11.flac")} == {
        "00.flac": "Jazz",
        "01.flac": "Hip-Hop",
        "10.flac": "Jazz",
        "11.flac": "Hip-Hop",
    }
    assert rows["10.flac"]["labelled_by"] == "ears"
    assert rows["none.mp3"]["error_kind"] == "not_audio"
    assert "Tags against ears" in (out / "report.html").read_text()
    again = learn(request)
    assert (again.status, again.counts["by_ears"]) == ("up_to_date", 2)
    assert again.counts["accuracy"] == made.counts["accuracy"]
    write(music / "12.flac", 12, DARK, dark=False)
    third = learn(request)
    assert (third.status, third.counts["by_tag"], third.counts["without_label"]) == ("done", 11, 1)
    with (out / "tags_against_ears.csv").open() as file:
        differ = list(csv.DictReader(file))
    assert {"track_id": "12.flac", "tag_genre": "Hip-Hop", "ears_genre": "Jazz"}.items() <= differ[0].items()


def test_a_short_listing_takes_no_label_away(tmp_path: Path) -> None:
    """Ten of thirteen files are not there, as on half a mount: nothing is heard, and the labels stay."""
    music, out = tmp_path / "music", tmp_path / "learned"
    music.mkdir()
    out.mkdir()
    names = [f"{number:02}.flac" for number in range(13)]
    for number, name in enumerate(names[:3]):
        write(music / name, number, DARK if number == 1 else BRIGHT, number == 1)
    pq.write_table(pa.table({"track_id": names, "genre_top": ["Jazz"] * 13}), out / "labels.parquet")
    before = (out / "labels.parquet").read_bytes()
    request = LearnRequest(Uri.of_path(music), Uri.of_path(out), BundleName.SHIPPED)
    for asked in (request, replace(request, dry_run=True)):
        made = learn(asked)
        assert (made.counts["refused_removed"], len(made.refused)) == (10, 1)
        assert "--accept removed" in made.refused[0]
    assert (out / "labels.parquet").read_bytes() == before
    assert not (out / "embeddings").exists()
    assert learn(replace(request, dry_run=True, accepted=("removed",))).status == "dry_run"


@pytest.mark.parametrize(
    ("there", "unlabelled", "accepted", "found"),
    [
        (range(40), (), (), []),
        (range(31), (), (), []),
        (range(30), (), (), ["removed"]),
        (range(30), (), ("removed",), []),
        (range(40), range(10), (), ["stale"]),
        (range(30), range(10), ("removed",), ["stale"]),
        (range(100, 140), (), (), ["removed"]),
    ],
)
def test_losses_of_labels(
    tmp_path: Path, there: Sequence[int], unlabelled: Sequence[int], accepted: tuple[str, ...], found: list[str]
) -> None:
    """Forty tracks were labelled, and one more has no label to lose."""
    place = tmp_path / "labels.parquet"
    genres = ["Jazz"] * 40 + [None]
    pq.write_table(pa.table({"track_id": [str(number) for number in range(41)], "genre_top": genres}), place)
    now, without = (pa.array([str(number) for number in numbers], pa.string()) for numbers in (there, unlabelled))
    assert [each.name for each in find_losses(Uri.of_path(place), now, without, accepted)] == found
    place.write_bytes(b"damaged")
    assert find_losses(Uri.of_path(place), now, without) == []


@pytest.mark.parametrize("dry_run", [False, True])
def test_tags_that_teach_nothing_are_said_before_anything_is_heard(tmp_path: Path, dry_run: bool) -> None:
    music = tmp_path / "music"
    music.mkdir()
    write(music / "one.flac", 0, BRIGHT, dark=False)
    write(music / "two.flac", 1, None, dark=True)
    with pytest.raises(TrainingError, match=r"fewer than two genres that mgc knows \(Jazz: 1\)"):
        learn(LearnRequest(Uri.of_path(music), Uri.of_path(tmp_path / "out"), dry_run=dry_run))
    assert not (tmp_path / "out" / "embeddings").exists()
