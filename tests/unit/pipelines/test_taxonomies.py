"""`--taxonomy` and `mgc show BUNDLE`: what may stand there, what is refused in one line, and what is shown."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.bundles import answer_in
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.bundle_facts import describe_model
from mgc.errors import FeaturesError, MgcError
from mgc.labeling.tag_maps import shipped_map
from mgc.models.architecture import build_model
from mgc.public_models.bundles import audioset_vocabulary
from pipelines import plan, show
from pipelines.command.job import run
from pipelines.command.options import TAXONOMY
from pipelines.evaluation.evaluate import evaluate_bundle
from pipelines.evaluation.requests import EvaluateRequest
from tests.support import tiny_features
from tests.support.nights import refusal
from tests.unit.small_bundle import EXPERIMENT, bundle

WORDS = "genre,parent,tag,weight\nloud,,rock,1\npunk,loud,punk,0.5\nsoft,,folk,1\n"


def audioset_bundle() -> Bundle:
    """The small network with the outputs of AudioSet."""
    vocabulary = audioset_vocabulary()
    taxonomy, tags = shipped_map("audioset", vocabulary)
    model = build_model(EXPERIMENT.model, (16, 32), len(vocabulary.tags)).eval()
    return bundle(model=model, taxonomy=taxonomy, tags=tags)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    bundle().save(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def music(tmp_path: Path) -> Path:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.wav").write_bytes(b"not heard here")
    return tmp_path / "music"


def summary(capsys: pytest.CaptureFixture[str], command: Any, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The job's summary; what it prints on stderr is one line if it fails."""
    assert run(command, arguments) == code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    said: dict[str, Any] = json.loads(printed.out.splitlines()[-1])
    if code:
        [line] = printed.err.splitlines()
        assert said["error"] in line
    return said | {"printed": printed.out}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("gtzan", "gtzan"), ("my words", "my words"), ("./gtzan", Uri.parse("gtzan")), ("w.csv", Uri.parse("w.csv")),
        ("a/b", Uri.parse("a/b")), ("s3://bucket/w.csv", Uri.parse("s3://bucket/w.csv")), (".", Uri.parse(".")),
        ("file:///w", Uri.parse("/w")),
    ],
)  # fmt: skip
def test_a_slash_or_a_dot_makes_a_file(text: str, place: Uri | str) -> None:
    assert TAXONOMY(text) == place


def test_a_plan_with_words_of_ones_own(
    place: Path, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = tmp_path / "words.csv"
    words.write_text(WORDS)
    asked = [str(music), "--labels", str(tmp_path / "labels"), "--bundle", str(place)]
    said = summary(capsys, plan.command, *asked, "--taxonomy", str(words))
    chosen = answer_in(bundle(), Uri.of_path(words))
    assert said["counts"]["to_label"] == 1
    assert f"{chosen.id} ({place}, taxonomy {words})" in said["printed"]
    assert bundle().id in summary(capsys, plan.command, *asked)["printed"]


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**10)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (None, "nothing is there"),
        (folder, "a folder"),
        (pipe, "no text file"),
        (large, "no text file"),
        (b"", "no genres"),
        (b"\n\n# nothing yet\n", "no genres"),
        (b"\x89PNG\r\n\x1a\n\0\0\xff", "not UTF-8"),
        (b"PK\3\4\0\0", "its columns are"),
        (b"genre,tag\nloud,rock\0\n", "no tag"),
        (b"genre,tag\nloud,rokc\n", "did you mean 'rock'"),
        (b"genre,tag\nloud,xylophone\n", "`mgc show BUNDLE`"),
        (b"genre,parent,tag\na,b,rock\nb,c,punk\nc,a,folk\n", "line 2: the parents form a circle"),
        (b"genre,tag\n\"loud,rock\nsoft,folk\n", "line"),
        (b"genre,tag\nloud," + b"x" * 200_000 + b"\n", "line 2: this is no CSV"),
        (b"genre,tag\nloud," + b"x" * 100_000 + b"\n", "line 2: the model has no tag"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_taxonomy_is_one_line(
    make: Callable[[Path], None] | bytes | None, fault: str,
    place: Path, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = tmp_path / "words.csv"
    if isinstance(make, bytes):
        words.write_bytes(make)
    elif make is not None:
        make(words)
    labels = tmp_path / "labels"
    asked = [str(music), "--labels", str(labels), "--bundle", str(place), "--taxonomy", str(words)]
    # A file that cannot be read is a failure; one that says something wrong is a wrong command.
    unread = fault in ("nothing is there", "a folder", "no text file", "not UTF-8")
    error = summary(capsys, plan.command, *asked, code=1 if unread else 2)["error"]
    assert str(words) in error
    assert fault in error
    assert len(error) < 1000
    assert not labels.exists()


@pytest.mark.parametrize("known", [False, True])
def test_a_name_that_no_map_has(
    known: bool, place: Path, music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names those that would do."""
    if known:
        audioset_bundle().save(place)
    asked = [str(music), "--labels", str(tmp_path / "labels"), "--bundle", str(place), "--taxonomy", "gtzam"]
    error = summary(capsys, plan.command, *asked, code=2)["error"]
    assert "gtzam" in error
    assert ("audioset, fma, gtzan, id3" in error) == known
    assert ("none" in error) != known


def test_a_file_in_a_bucket(s3_environment: Any, bucket_uri: str) -> None:
    words = Uri.parse(bucket_uri) / "words.csv"
    assert str(words) in refusal(answer_in, bundle(), words, error=MgcError)
    files.write_bytes(words, WORDS.encode())
    assert answer_in(bundle(), words).taxonomy.names == ("loud", "punk", "soft")
    assert "folder" in refusal(answer_in, bundle(), Uri.parse(bucket_uri), error=MgcError)
    nowhere = Uri.parse("s3://no-such-bucket-here/words.csv")
    assert "no-such-bucket-here" in refusal(answer_in, bundle(), nowhere, error=MgcError)


def test_a_bundle_shows_its_words(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = summary(capsys, show.command, str(place))
    assert said["outputs"]["bundle_id"] == bundle().id
    assert said["counts"] == {"genres": 3, "tags": 3, "taxonomies": []}
    assert all(genre in said["printed"] for genre in bundle().taxonomy.names)
    audioset_bundle().save(place)
    said = summary(capsys, show.command, str(place))
    assert said["counts"] == {"genres": 52, "tags": 527, "taxonomies": ["audioset", "fma", "gtzan", "id3"]}
    assert all(tag in said["printed"] for tag in ("Field recording", "Heavy metal", "White noise"))
    said = summary(capsys, show.command, str(place), "--genre", "Heavy metal")
    assert "White noise" not in said["printed"]
    assert "White noise" not in summary(capsys, show.command, str(place), "--dry-run")["printed"]


def test_the_facts_of_a_bundle_name_its_taxonomy() -> None:
    assert "taxonomy" not in describe_model(bundle())
    chosen = answer_in(audioset_bundle(), "gtzan")
    facts = describe_model(chosen, "gtzan")
    assert facts["taxonomy"].startswith("gtzan: 10 genres")
    assert "of 527 tags (audioset)" in facts["taxonomy"]
    assert "share" in facts["confidence"]
    assert describe_model(audioset_bundle())["taxonomy"].startswith("its own: 52 genres")
    # A tag that speaks for a genre is music: FMA has a genre for speech.
    others = []
    for each in (audioset_bundle(), answer_in(audioset_bundle(), "fma")):
        assert each.tags is not None
        music = {*each.vocabulary.music, *(found.tag for found in each.tags.evidence)}
        others.append(527 - len(music))
        assert describe_model(each)["no music"].startswith(f"{others[-1]} of 527 sounds (audioset)")
    assert others[0] > others[1]


def test_an_evaluation_in_other_words_has_a_place_of_its_own(tmp_path: Path) -> None:
    features = Uri.parse(tiny_features.write(tmp_path / "features"))
    made = tiny_features.bundle(tiny_features.EXPERIMENT, None)
    made.save(tmp_path / "bundle")
    (tmp_path / "words.csv").write_text("genre,tag\nrock,rock\nfolk,folk\n")
    words, place = Uri.of_path(tmp_path / "words.csv"), Uri.of_path(tmp_path / "bundle")
    request = EvaluateRequest(place, features, taxonomy=words, dry_run=True)
    assert "--out" in refusal(evaluate_bundle, request, error=FeaturesError)
    out = Uri.of_path(tmp_path / "out")
    asked = EvaluateRequest(place, features, out=out, taxonomy=words, dry_run=True)
    assert evaluate_bundle(asked).counts["tracks"] == 8
    (tmp_path / "words.csv").write_text("genre,tag\nloud,rock\nloud,folk\n")
    assert "folk" in refusal(evaluate_bundle, asked, error=MgcError)
