"""catalog → prepare → train → evaluate → label → show: real Ray, a real object store, real MP3s."""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from deltalake import DeltaTable
from safetensors.torch import load_file

from cluster.bundles import open_bundle
from cluster.labels.table import LabelsTable
from cluster.session.epoch_counter import EpochCounter
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.fetch import Fetch
from cluster.storage.uri import Uri
from cluster.streams import catalog_feed
from cluster.streams.failed_tracks import FailedTracks
from cluster.streams.feed import feed
from cluster.streams.scoring import ScoreRequest, answer_clips
from cluster.tables.features import read_features, read_roster
from mgc import schema
from mgc.bundle import load_bundle
from mgc.configuration import to_json
from mgc.datasets.synthetic import SYNTHETIC_NOTICE, SyntheticConfig, encode, metadata_table, plan_corpus
from mgc.errors import ErrorKind
from mgc.evaluation.answers import map_of
from mgc.evaluation.robustness import zero_pixels
from mgc.graphs.export import export_graph
from mgc.hearing.extract import Extract
from mgc.models.graph import Graph
from mgc.recipes.catalogue import find
from pipelines import catalog, evaluate, label, prepare, recipes, show, train
from pipelines.catalogs.sources import open_tracks
from pipelines.command.job import run

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

CORPUS = SyntheticConfig(
    seed=5,
    largest_genre_tracks=4,
    smallest_genre_tracks=4,
    shortest_seconds=4.0,
    longest_seconds=4.0,
    damaged_tracks=4,
)
SMALL = [
    "--training.epochs", "1", "--training.head_epochs", "2", "--training.balance", "progressive",
    "--training.batch_size=8", "--model.channels", "8,16", "--training.precision", "float32",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny corpus on disk, with its metadata beside it."""
    folder = tmp_path_factory.mktemp("corpus")
    plans = plan_corpus(CORPUS)
    for plan in plans:
        path = folder / "audio" / plan.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(plan))
    (folder / "audio" / "cover.jpg").write_bytes(b"\xff\xd8")
    pq.write_table(metadata_table(plans), folder / "metadata.parquet")
    return folder


@pytest.fixture(scope="module")
def bucket(corpus: Path, ray_session: Profile, s3_environment: Any) -> str:
    """The corpus in the object store."""
    uri = f"s3://{s3_environment.make_bucket()}"
    files.copy_tree(Uri.of_path(corpus), Uri.parse(uri))
    return uri


@pytest.fixture(scope="module")
def trained(bucket: str) -> str:
    """Catalog, features and a bundle under the bucket; two data-parallel workers."""
    job(
        catalog.command,
        f"{bucket}/audio",
        "--out",
        f"{bucket}/catalog.parquet",
        "--metadata",
        f"{bucket}/metadata.parquet",
        "--notice",
        SYNTHETIC_NOTICE,
    )
    job(prepare.command, f"{bucket}/catalog.parquet", "--out", f"{bucket}/features")
    job(
        train.command, "--features", f"{bucket}/features", "--out", f"{bucket}/bundle", "--workers", "2",
        "--checkpoints", f"{bucket}/checkpoints", *SMALL,
    )  # fmt: skip
    return bucket


@pytest.fixture(scope="module")
def labelled(trained: str) -> tuple[str, dict[str, Any]]:
    """A labels table of all tracks, and the summary of the job."""
    labels, printed = f"{trained}/labels", io.StringIO()
    with contextlib.redirect_stdout(printed):
        job(label.command, f"{trained}/catalog.parquet", "--bundle", f"{trained}/bundle", "--labels", labels)
    return labels, json.loads(printed.getvalue().splitlines()[-1])


def job(command: Any, *arguments: str, code: int = 0) -> None:
    """Run a job in this process."""
    assert run(command, arguments) == code


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The last line of stdout."""
    facts: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"job", "status", "counts", "outputs", "seconds"} <= facts.keys()
    return facts


def test_catalog_counts_what_it_passes_over(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    job(catalog.command, f"{bucket}/audio", "--out", f"{bucket}/other.parquet", "--limit", "5")
    assert summary(capsys)["counts"]["tracks"] == 5
    job(catalog.command, f"{bucket}/audio", "--out", f"{bucket}/other.parquet")
    counts = summary(capsys)["counts"]
    assert counts["passed_over"] == 1
    assert counts["tracks"] == len(plan_corpus(CORPUS))


def test_a_report_through_the_object_store(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    job(evaluate.command, "--bundle", f"{trained}/bundle", "--features", f"{trained}/features", "--robustness")
    scored = summary(capsys)["counts"]
    assert 0 <= scored["accuracy"] <= 1
    said = json.loads(files.read_text(Uri.parse(f"{trained}/bundle/report.json")))
    assert said["scores"]["accuracy"] == pytest.approx(scored["accuracy"], abs=1e-4)
    assert (said["scores"]["tracks"], said["scores"]["group_kind"]) == (scored["tracks"], "artists")
    assert sum(each["tracks"] for each in said["calibration"]["bins"]) == scored["tracks"]
    assert [point["zeroed"] for point in said["robustness"]["points"]] == [0.0, 0.25, 0.5, 0.75]
    assert said["robustness"]["points"][0]["accuracy"] == said["scores"]["accuracy"]
    page = files.read_text(Uri.parse(f"{trained}/bundle/report.html"))
    assert "ynthetic" in page
    assert "<svg" in page


def test_labels_through_the_object_store(
    trained: str, labelled: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    labels, first = labelled
    tracks = len(plan_corpus(CORPUS))
    assert first["status"] == "done"
    assert first["counts"]["labeled"] + first["counts"]["quarantined"] == tracks
    assert first["counts"]["quarantined"] >= 1

    rows = LabelsTable(Uri.parse(labels)).dataset().to_table()
    known = pq.read_table(Uri.parse(f"{trained}/catalog.parquet").path, filesystem=Uri.parse(trained).filesystem)
    assert sorted(rows["track_id"].to_pylist()) == sorted(known["track_id"].to_pylist())
    assert rows.schema.names == schema.LABELS.names
    tags = dict(zip(known["track_id"].to_pylist(), known["content_tag"].to_pylist(), strict=True))
    for row in rows.to_pylist():
        assert row["content_tag"] == tags[row["track_id"]]
        assert (row["genre_top"] is None) == (row["error_kind"] is not None)
        assert (row["status"] == schema.LABELED) == (row["error_kind"] is None)
    assert len(DeltaTable(labels, storage_options=Uri.parse(labels).storage_options).history()) == 1

    job(label.command, f"{trained}/catalog.parquet", "--bundle", f"{trained}/bundle", "--labels", labels)
    again = summary(capsys)
    assert again["status"] == "up_to_date"
    assert again["counts"]["up_to_date"] == tracks
    assert LabelsTable(Uri.parse(labels)).version == 0

    job(show.command, labels)
    printed = capsys.readouterr().out
    assert "quarantined" in printed
    assert all(genre in printed for genre in set(rows["genre_top"].drop_null().to_pylist()))


def test_one_pass_gives_logits_embeddings_and_noisy_logits(trained: str, ray_session: Profile) -> None:
    """What Ray's actors say, held against the model in this process."""
    dataset, facts = read_features(Uri.parse(f"{trained}/features"))
    bundle = open_bundle(Uri.parse(f"{trained}/bundle"))
    assert facts.listening == to_json(bundle.experiment.listening)
    shape = facts.shape
    rows = feed(dataset, "train", ray_session, bundle.experiment)
    stored = {row["track_id"]: row["features"] for row in rows.take_all()}
    shown = sorted(stored)[:10]
    clips = answer_clips(rows, bundle, ScoreRequest(shape, shown, (0.5,)), ray_session)
    assert sorted(clips["track_id"].to_pylist()) == sorted(stored), "one clip a track, so short they are"
    predict = bundle.predictor()
    for row in clips.to_pylist():
        clip_NFT = np.frombuffer(stored[row["track_id"]], facts.dtype).reshape(1, *shape)
        ((_, embedding_ND, logits_NG),) = predict.parts(clip_NFT)
        assert row["logits"] == pytest.approx(logits_NG[0], abs=1e-4)
        assert row["logits_zeroed_0.5"] == pytest.approx(predict.logits(zero_pixels(clip_NFT, 0.5))[0], abs=1e-4)
        assert (row["embedding"] is not None) == (row["track_id"] in shown)
        if row["embedding"] is not None:
            embedding_D = np.frombuffer(row["embedding"], np.float32)
            np.testing.assert_allclose(embedding_D, embedding_ND[0], atol=1e-4)
    drawn = map_of(clips, bundle.taxonomy)
    assert drawn is not None
    assert [point.track_id for point in drawn.points] == shown


def test_a_catalog_is_heard_on_the_way_to_the_same_clips(trained: str, ray_session: Profile) -> None:
    """What is decoded in an epoch is what was prepared; tracks that fail are noted, each once."""
    made = find("house").build()
    tracks, _ = open_tracks(Uri.parse(f"{trained}/catalog.parquet"))
    dataset, facts = read_features(Uri.parse(f"{trained}/features"))
    counts = read_roster(dataset, made.protocol).class_counts("train")
    natural = replace(made, training=replace(made.training, balance="natural"))
    mine = tracks.filter(pc.equal(tracks["split"], "train"))
    plan = Uri.parse(f"{trained}/plan")
    catalog_feed.write_plan(plan, mine)
    failed, epoch = FailedTracks.start(), EpochCounter.start()
    clip_bytes = math.prod(facts.shape)

    def heard(profile: Profile) -> list[tuple[Any, ...]]:
        draw = catalog_feed.EpochDraw(counts, epoch)
        request = catalog_feed.CatalogFeed(plan, mine.num_rows, clip_bytes, natural, draw, failed)
        return [tuple(row.values()) for row in catalog_feed.feed_catalog(request, profile, None).iter_rows()]

    prepared = [tuple(row.values()) for row in feed(dataset, "train", ray_session, made).iter_rows()]
    first = heard(ray_session)
    assert sorted(first) == sorted(prepared)
    epoch.begin(1)
    second = heard(ray_session)
    assert sorted(second) == sorted(prepared)
    assert [row[0] for row in first] != [row[0] for row in second]
    lost = failed.read()
    assert lost.keys() == set(mine["track_id"].to_pylist()) - {row[0] for row in prepared}
    assert lost
    assert set(lost.values()) <= set(ErrorKind)


@pytest.mark.drill
def test_a_catalog_is_trained_on_without_being_prepared(
    trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "bundle")
    few = ("--training.epochs", "1", "--training.head_epochs", "0")
    job(train.command, "--catalog", f"{trained}/catalog.parquet", "--out", out, *SMALL[2:], *few)
    facts = summary(capsys)["counts"]
    bundle = load_bundle(out)
    assert facts["quarantined"] == sum((bundle.training.quarantined or {}).values()) >= 1
    assert facts["epochs"] == 1
    assert SYNTHETIC_NOTICE in bundle.training.notices
    assert not (tmp_path / "bundle" / "_checkpoints").exists()
    job(train.command, "--catalog", f"{trained}/catalog.parquet", "--features", f"{trained}/features", "--out", out,
        code=2)  # fmt: skip
    assert "--features" in summary(capsys)["error"]
    job(train.command, "--catalog", f"{trained}/catalog.parquet", "--out", out, "--protocol.kind", "clip_random",
        "--protocol.leak", "track", code=2)  # fmt: skip
    assert "divides clips" in summary(capsys)["error"]


def test_training_leaves_safetensors_and_json_only(trained: str) -> None:
    saved = [uri.name for uri in files.list_uris(Uri.parse(f"{trained}/checkpoints")) if "/checkpoint_" in uri.path]
    assert {
        "model.safetensors",
        "best.safetensors",
        "optimizer.safetensors",
        "average.safetensors",
        "state.json",
    } <= set(saved)
    assert not [name for name in saved if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]
    bundle = [uri.name for uri in files.list_uris(Uri.parse(f"{trained}/bundle"))]
    assert {"model.safetensors", "experiment.json", "taxonomy.json", "normalization.json", "metrics.json"} <= set(
        bundle
    )


def test_the_classifier_is_trained_again(trained: str, tmp_path: Path) -> None:
    """Two workers: one epoch of the whole model, then two of its head alone; the best of these is in the bundle."""
    bundle = open_bundle(Uri.parse(f"{trained}/bundle"))
    history = bundle.training.history
    assert [row["epoch"] for row in history] == [1, 2, 3]
    files.copy_tree(Uri.parse(f"{trained}/checkpoints"), Uri.of_path(tmp_path))
    earlier, later = sorted(tmp_path.glob("*/checkpoint_*/model.safetensors"))
    before, after = load_file(earlier), load_file(later)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    state = json.loads((later.parent / "state.json").read_text())
    best = max(row["validation_macro_f1"] for row in history[1:])
    assert (state["epoch"], state["best"]) == (2, best)
    # The bundle has the head of the best epoch on the one embedding of the second stage.
    own = bundle.model.state_dict()
    assert all(torch.equal(own[name], after[name]) for name in after if name not in changed)
    chosen = load_file(later.parent / "best.safetensors")
    assert all(torch.equal(own[name], chosen[name]) for name in chosen)


def test_jobs_that_have_nothing_to_do_say_so(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    job(prepare.command, f"{trained}/catalog.parquet", "--out", f"{trained}/features")
    assert summary(capsys)["status"] == "up_to_date"
    job(train.command, "--features", f"{trained}/features", "--out", f"{trained}/bundle", "--workers", "2", *SMALL)
    assert summary(capsys)["status"] == "up_to_date"


def test_a_for_loop_gives_the_same_labels(trained: str, labelled: tuple[str, dict[str, Any]]) -> None:
    """The stages called in this process answer as they do in Ray's actors."""
    rows = {row["track_id"]: row for row in LabelsTable(Uri.parse(labelled[0])).dataset().to_table().to_pylist()}
    location = Uri.parse(f"{trained}/bundle")
    bundle = load_bundle(location.path, location.filesystem)
    tracks, _ = open_tracks(Uri.parse(f"{trained}/catalog.parquet"))
    fetch, extract = Fetch(), Extract(bundle.hearing)
    predict = bundle.predictor(graph=Graph(export_graph(bundle)))
    for start in range(0, tracks.num_rows, 7):
        part = tracks.slice(start, 7)
        batch = {name: np.array(part[name].to_pylist(), dtype=object) for name in ("track_id", "uri", "content_tag")}
        answers = predict(extract(fetch(batch)))
        for place, track in enumerate(answers["track_id"]):
            assert rows[track]["genre_top"] == answers["genre_top"][place]
            assert rows[track]["error_kind"] == answers["error_kind"][place]
            if rows[track]["confidence"] is not None:
                assert rows[track]["confidence"] == pytest.approx(answers["confidence"][place], abs=1e-6)


def test_a_training_starts_from_a_bundle(trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At a rate of next to nothing, the weights stay what they were at the start."""
    start, out = f"{trained}/bundle", str(tmp_path / "on")
    common = [
        "--features", f"{trained}/features", "--init", start, "--training.epochs", "1", "--training.batch_size", "8",
        "--training.learning_rate", "1e-9", "--training.precision", "float32",
    ]  # fmt: skip
    job(train.command, *common, "--out", out, "--model.channels", "8,16")
    location = Uri.parse(start)
    first, second = load_bundle(location.path, location.filesystem), load_bundle(out)
    assert second.training.started_from == first.id
    for (name, one), other in zip(first.model.named_parameters(), second.model.parameters(), strict=True):
        np.testing.assert_allclose(other.numpy(force=True), one.numpy(force=True), atol=1e-6, err_msg=name)
    job(train.command, *common, "--out", f"{out}2", "--model.channels", "4,4", code=2)
    assert "another network" in summary(capsys)["error"]


def test_one_file_from_python(trained: str, corpus: Path) -> None:
    location = Uri.parse(f"{trained}/bundle")
    bundle = load_bundle(location.path, location.filesystem)
    good = next(plan for plan in plan_corpus(CORPUS) if plan.damage is None)
    answer = bundle.label(corpus / "audio" / good.path)
    assert answer.genre_top in bundle.taxonomy.names
    assert answer.duration_seconds == pytest.approx(good.seconds, abs=0.1)


def test_features_of_another_front_end_are_refused(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    job(
        train.command,
        "--recipe",
        "house-thumbnail",
        "--features",
        f"{trained}/features",
        "--out",
        f"{trained}/no",
        code=1,
    )
    assert "front end" in summary(capsys)["error"]
    job(
        prepare.command,
        f"{trained}/catalog.parquet",
        "--recipe",
        "house-thumbnail",
        "--out",
        f"{trained}/features",
        code=1,
    )
    assert "front end" in summary(capsys)["error"]


@pytest.mark.drill
def test_a_guess_goes_the_same_way_on_two_workers(
    trained: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to train, nor to share among workers: it is scored, saved and answers as any model."""
    job(
        train.command, "--recipe", "nguyen-prior", "--features", f"{trained}/features",
        "--out", str(tmp_path / "guess"), "--workers", "2", "--front_end.kind", "log_mel",
        "--training.epochs=2", "--training.batch_size=8", "--listening.window_seconds=30", "--listening.windows=3",
    )  # fmt: skip
    bundle = load_bundle(tmp_path / "guess")
    shares = bundle.training.data.genre_share
    assert bundle.model.shares_G.tolist() == pytest.approx([shares[genre] for genre in bundle.taxonomy.names])
    first, second = bundle.training.history
    assert (first["validation_loss"], first["validation_macro_f1"]) == (
        second["validation_loss"],
        second["validation_macro_f1"],
    )
    capsys.readouterr()
    job(evaluate.command, "--bundle", str(tmp_path / "guess"), "--features", f"{trained}/features")
    assert 0 <= summary(capsys)["counts"]["accuracy"] <= 1


def test_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    job(recipes.command)
    printed = capsys.readouterr().out
    assert {"obeirne-a1", "0.900"} <= set(printed.split())
