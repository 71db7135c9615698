"""`mgc train` and `mgc evaluate` under a protocol: what a dry run shows, and what is refused before Ray starts."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.bundles import open_bundle, save_bundle
from cluster.storage.uri import Uri
from cluster.tables.features import read_features, read_roster
from mgc.audio.excerpts import ListeningPlan
from mgc.datasets.protocols import ByGroup, ClipRandom, GivenSplits, ProtocolConfig
from mgc.errors import ConfigError, FeaturesError, LeakageError
from mgc.evaluation.leakage import TrainedGroups
from pipelines.command.job import Summary
from pipelines.evaluation.compare import compare_bundles
from pipelines.evaluation.evaluate import evaluate_bundle
from pipelines.evaluation.requests import CompareRequest, EvaluateRequest
from pipelines.training.requests import TrainRequest
from pipelines.training.train import train_bundle
from tests.support import tiny_features


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_features.write(tmp_path_factory.mktemp("features"))


def request(protocol: ProtocolConfig, features: str) -> TrainRequest:
    return TrainRequest(tiny_features.under(protocol), Uri.parse("/nowhere"), Uri.parse(features))


def dry_run(protocol: ProtocolConfig, features: str, limit: int | None = None) -> Summary:
    return train_bundle(replace(request(protocol, features), limit=limit, dry_run=True))


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    printed = capsys.readouterr().out.splitlines()
    width = max(line.index("  ") for line in printed if line.startswith("on more"))
    return {line[:width].strip(): line[width:].strip() for line in printed}


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def test_a_dry_run_shows_sides_and_leaks(features: str, capsys: pytest.CaptureFixture[str]) -> None:
    summary = dry_run(GivenSplits(), features)
    assert summary.counts == {"train_clips": 128, "validation_clips": 32}
    said = lines(capsys)
    assert said["protocol"].startswith("given")
    assert numbers(said["train"]) == [32, 128, 8]
    assert numbers(said["validation"]) == [8, 32, 2, 0, 0]
    assert numbers(said["test"]) == [8, 32, 2, 0, 0]
    assert numbers(said["on more than one side"]) == [0, 0]


def test_a_leak_is_shown_and_refused_unless_it_is_asked_for(features: str, capsys: pytest.CaptureFixture[str]) -> None:
    by_track = {"kind": "track", "validation_share": 0.25, "test_share": 0.25}
    with pytest.raises(LeakageError, match=r"artists.*--protocol\.leak artist"):
        dry_run(ByGroup(**by_track), features)
    said = lines(capsys)
    tracks, artists = numbers(said["on more than one side"])
    assert tracks == 0 < artists
    # The same without a dry run, before Ray is asked for anything.
    with pytest.raises(LeakageError):
        train_bundle(request(ByGroup(**by_track), features))
    dry_run(ByGroup(**by_track, leak="artist"), features)
    dry_run(ClipRandom(0.25, 0.25, leak="track"), features)
    dry_run(ByGroup(0.25, 0.25, seed=1), features)


def test_another_side_of_the_same_features(features: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen = set()
    for fold in range(3):
        dry_run(ByGroup(folds=3, fold=fold), features)
        seen.add(lines(capsys)["test"])
    assert len(seen) > 1


def test_a_limit_is_of_each_side(features: str, capsys: pytest.CaptureFixture[str]) -> None:
    dry_run(ClipRandom(0.3, 0.3, leak="track"), features, limit=5)
    said = lines(capsys)
    assert numbers(said["train"])[0] == 5
    assert numbers(said["validation"])[0] == 5


def test_a_side_that_is_empty_is_refused_with_the_way_out(features: str, tmp_path: Path) -> None:
    with pytest.raises(FeaturesError, match=r"'validation'.*artist: 0 validation.*shares"):
        dry_run(ByGroup(validation_share=0.0), features)


def saved(folder: Path, features: str, protocol: ProtocolConfig, noted: bool = True) -> str:
    dataset, _ = read_features(Uri.parse(features))
    trained_on = TrainedGroups.of(read_roster(dataset, protocol)) if noted else None
    return save_bundle(tiny_features.bundle(tiny_features.under(protocol), trained_on), Uri.of_path(folder)) and str(
        folder
    )


def score(bundle: str, features: str, split: str = "test", **fields: str) -> Summary:
    dotted = {f"protocol.{name}": value for name, value in fields.items()}
    return evaluate_bundle(EvaluateRequest(Uri.parse(bundle), Uri.parse(features), split, fields=dotted, dry_run=True))


def test_what_was_trained_on_is_not_scored(features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = saved(tmp_path / "b", features, GivenSplits())
    assert score(bundle, features).counts == {"tracks": 8}
    with pytest.raises(LeakageError, match=r"\b32 of 32 tracks.*'train'"):
        score(bundle, features, "train")
    capsys.readouterr()
    assert score(bundle, features, "train", leak="track").counts == {"tracks": 32}
    assert re.search(r"LEAK.*100\.0 %.* 32 ", capsys.readouterr().out)
    # Another division of the same features holds tracks that were trained on.
    with pytest.raises(LeakageError, match="trained"):
        score(bundle, features, kind="track", test_share="0.5")
    # The same artists under other names of tracks.
    again = saved(tmp_path / "again", features, ByGroup(0.25, 0.25, kind="track", leak="artist"))
    with pytest.raises(LeakageError, match=r"artists.*trained"):
        score(again, features, leak="none")
    assert score(again, features).status == "dry_run"


def test_under_clip_random_clips_are_scored(features: str, tmp_path: Path) -> None:
    bundle = saved(tmp_path / "b", features, ClipRandom(0.25, 0.25, leak="track"))
    counts = score(bundle, features).counts
    assert counts["clips"] > counts["tracks"] > 0


def test_without_a_note_nothing_is_refused(features: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = saved(tmp_path / "b", features, GivenSplits(), noted=False)
    assert score(bundle, features, "train").counts == {"tracks": 32}
    assert '"checked": false' in capsys.readouterr().out


def test_only_the_protocol_of_a_bundle_can_be_set(features: str, tmp_path: Path) -> None:
    bundle = saved(tmp_path / "b", features, GivenSplits())
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        evaluate_bundle(
            EvaluateRequest(Uri.parse(bundle), Uri.parse(features), fields={"training.epochs": "3"}, dry_run=True)
        )


def test_a_bundle_saved_over_another_leaves_no_note_of_the_other(features: str, tmp_path: Path) -> None:
    saved(tmp_path / "b", features, GivenSplits())
    saved(tmp_path / "b", features, GivenSplits(), noted=False)
    assert open_bundle(Uri.of_path(tmp_path / "b")).trained_on is None


def test_features_of_another_listening_plan_are_not_scored(features: str, tmp_path: Path) -> None:
    bundle = saved(tmp_path / "b", features, GivenSplits())
    same = tiny_features.write(tmp_path / "same", plan=tiny_features.EXPERIMENT.listening)
    assert score(bundle, same).counts == {"tracks": 8}
    other = tiny_features.write(tmp_path / "other", plan=ListeningPlan(windows=1))
    with pytest.raises(FeaturesError, match=r"other: .*--listening.windows 1, not --listening.windows 3; "):
        score(bundle, other)
    places = (Uri.parse(bundle), Uri.parse(bundle))
    compare_bundles(CompareRequest(places, (Uri.parse(features), Uri.parse(same)), dry_run=True))
    with pytest.raises(FeaturesError, match=r"other: .*--listening.windows 1"):
        compare_bundles(CompareRequest(places, (Uri.parse(same), Uri.parse(other)), dry_run=True))
