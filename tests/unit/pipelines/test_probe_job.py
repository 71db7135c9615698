"""Probes on a table of embeddings, and the labels that `mgc learn` makes of them, without Ray."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click import UsageError

from cluster.bundles import open_bundle
from cluster.embeddings.table import EmbeddingsTable
from cluster.embeddings.vectors import Model
from cluster.storage.uri import Uri
from cluster.tables.catalog import write_catalog
from mgc import schema
from mgc.bundle import Bundle
from mgc.errors import BundleError, CatalogError, ConfigError, ErrorKind, LabelsError, TrainingError
from mgc.features.normalization import Normalization
from mgc.labeling.decide import track_probabilities
from pipelines.catalogs.sources import open_catalog
from pipelines.learning.labels import answer_embeddings, disagreements, label_catalog
from pipelines.learning.learn import learn
from pipelines.learning.report import Findings, render
from pipelines.learning.requests import LearnRequest
from pipelines.train import command
from pipelines.training.probe import HONEST, train_probe
from pipelines.training.requests import ProbeRequest
from pipelines.training.trained_before import find_trained
from tests.support.nights import embedding_night
from tests.unit.small_bundle import bundle
from tests.unit.talking_bundle import embeddings, talking_bundle

GENRES = ("blues", "ska")


class Place:
    """A bundle, its embeddings and a catalog in a folder."""

    def __init__(self, folder: Path, base: Bundle | None = None) -> None:
        self.folder = folder
        self.base = bundle() if base is None else base
        self.width = len(self.base.embed(np.sin(np.arange(32000) ** 1.3), 16000))
        self.base.save(folder / "base")
        self.embeddings, self.catalog, self.out = (
            Uri.of_path(folder / name) for name in ("embeddings", "catalog", "bundle")
        )

    def fill(self, genres: list[str | None], artists: list[str | None], failing: tuple[int, ...] = ()) -> None:
        random = np.random.default_rng(0)
        centres = {genre: 3 * random.normal(size=self.width) for genre in dict.fromkeys(genres)}
        self.embed([centres[genre] + random.normal(size=self.width) for genre in genres], failing)
        self.list([f"{number:03}" for number in range(len(genres))], genres, artists)

    def embed(self, embeddings: list[np.ndarray], failing: tuple[int, ...] = ()) -> None:
        names = [f"{number:03}" for number in range(len(embeddings))]
        vectors = {name: embedding_D.tolist() for name, embedding_D in zip(names, embeddings, strict=True)}
        outcomes = {names[number]: ErrorKind.NOT_AUDIO.value for number in failing}
        embedding_night(
            self.embeddings,
            dict.fromkeys(names, "1"),
            outcomes,
            vectors=vectors,
            model=self.base.embedding_id,
            features=self.base.features_id,
        )

    def list(
        self, names: list[str], genres: list[str | None], artists: list[str | None], split: str | None = None
    ) -> None:
        columns: dict[str, Any] = {name: [None] * len(names) for name in schema.CATALOG.names}
        columns |= {"track_id": names, "genre_top": genres, "artist_id": artists, "content_tag": ["1"] * len(names)}
        columns |= {
            "uri": [str(self.catalog.parent / "music" / name) for name in names],
            "size_bytes": [1] * len(names),
        }
        columns["split"] = [split] * len(names)
        table = pa.table(columns, schema=schema.CATALOG)
        write_catalog(self.catalog / "catalog.parquet", iter([table]), (), self.catalog.parent, (self.catalog.parent,))

    def request(self, **change: Any) -> ProbeRequest:
        fields = {
            "embeddings": self.embeddings,
            "catalog": self.catalog,
            "out": self.out,
            "init": Uri.of_path(self.folder / "base"),
        }
        return ProbeRequest(**(fields | change))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with a probe. Whoever damages it trains it again."""
    place = Place(tmp_path_factory.mktemp("trained"))
    place.fill([*GENRES] * 6, [str(number) for number in range(12)])
    train_probe(place.request())
    return place


def test_a_probe_is_a_bundle_with_an_honest_score(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.fill([*GENRES] * 12, [f"artist {number // 4}" for number in range(24)])
    made = train_probe(place.request())
    assert made.status == "done"
    assert (made.counts["tracks"], made.counts["genres"], made.counts["without_artist"]) == (24, 2, 0)
    assert made.counts["accuracy"] > 0.9
    probe = open_bundle(place.out)
    assert probe.id == made.outputs["bundle_id"]
    assert probe.taxonomy.names == GENRES
    assert probe.features_id == place.base.features_id
    assert probe.evaluation is not None
    assert probe.evaluation.split == "cross-validation"
    assert "other artists" in probe.evaluation.description
    assert probe.training.data.genre_counts == {"blues": 12, "ska": 12}
    assert probe.trained_on is not None
    rows = pa.table({"track_id": ["000", "999"], "artist_id": ["x", "artist 1"]})
    assert probe.trained_on.hold(rows, "track").tolist() == [True, False]
    assert probe.trained_on.hold(rows, "artist").tolist() == [False, True]
    honest = pq.read_table(io.BytesIO((place.folder / "bundle" / HONEST).read_bytes()))
    assert honest.num_rows == 24
    assert (place.folder / "bundle" / "report.html").read_text().startswith("<!DOCTYPE html>")
    printed = capsys.readouterr()
    assert "24 tracks of 2 genres, 6 artists" in printed.err
    assert "blues" in printed.out
    again = train_probe(place.request())
    assert (again.status, again.outputs["bundle_id"]) == ("up_to_date", probe.id)
    assert again.counts["accuracy"] == made.counts["accuracy"]
    with pytest.raises(BundleError, match="another bundle lies here"):
        train_probe(place.request(seed=1))


UNKNOWN, SOME_UNKNOWN = "No artist is known", "3 tracks of unknown artists"
FEW, ALONE = "With one track only, ska", "polka are by one artist"


@pytest.mark.parametrize(
    ("genres", "artists", "warnings"),
    [
        (["blues", "polka"] * 6, [None] * 12, {UNKNOWN}),
        (
            ["blues", "jazz"] * 6 + ["ska"] + ["polka"] * 3,
            [*"abc" * 3, *[None] * 3, "d", *"xxx"],
            {SOME_UNKNOWN, FEW, ALONE},
        ),
    ],
)
def test_what_the_score_is_worth_is_said(
    place: Place,
    genres: list[str | None],
    artists: list[str | None],
    warnings: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    place.fill(genres, artists)
    made = train_probe(place.request())
    assert made.status == "done"
    printed, notices = capsys.readouterr().err, "\n".join(open_bundle(place.out).training.notices)
    for warning in (UNKNOWN, SOME_UNKNOWN, FEW, ALONE):
        assert (warning in printed) == (warning in notices) == (warning in warnings)


def test_a_damaged_probe_is_trained_again_where_it_may_be_replaced(trained: Place) -> None:
    before = open_bundle(trained.out)
    key = str(before.training.training_key)
    for name in ("model.safetensors", "experiment.json", "taxonomy.json"):
        file = trained.folder / "bundle" / name
        whole = file.read_bytes()
        file.write_bytes(b"{")
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            train_probe(trained.request())
        assert find_trained(trained.out, key, overwrite=True) is None
        file.write_bytes(whole)
        assert find_trained(trained.out, key, overwrite=True) is not None
    file.write_bytes(b"{")
    again = train_probe(trained.request(overwrite=True))
    assert (again.status, again.outputs["bundle_id"]) == ("done", before.id)


def test_a_probe_whose_answers_are_gone_writes_them_again(trained: Place) -> None:
    honest = trained.folder / "bundle" / HONEST
    before = honest.read_bytes()
    honest.unlink()
    assert train_probe(trained.request()).status == "done"
    assert honest.read_bytes() == before


def test_tags_that_no_head_could_have_given_are_not_held_against_the_ears(place: Place) -> None:
    """All of polka is by one artist, so each head that answers for them has never heard polka."""
    genres: list[str | None] = [*GENRES] * 6 + ["polka"] * 3
    place.fill(genres, [str(number) for number in range(12)] + ["x"] * 3)
    train_probe(place.request())
    table, probe, catalog = EmbeddingsTable(place.embeddings), open_bundle(place.out), open_catalog(place.catalog)
    answers = answer_embeddings(table, Model(place.base.embedding_id, place.base.features_id), probe)
    honest = pq.read_table(io.BytesIO((place.folder / "bundle" / HONEST).read_bytes()))
    labels = label_catalog(catalog.tracks, table, answers, honest)
    wrong = {row["track_id"] for row in labels.to_pylist() if row["ears_genre"] != row["tag_genre"]}
    assert {"012", "013", "014"} <= wrong
    assert not {"012", "013", "014"} & set(disagreements(labels, honest)["track_id"].to_pylist())


def test_another_bundle_is_not_replaced(place: Place) -> None:
    """`mgc learn` writes its probe over the last one, but over nothing else."""
    place.base.save(place.folder / "learned" / "bundle")
    with pytest.raises(ConfigError, match="choose another --out"):
        learn(LearnRequest(place.catalog.parent, Uri.of_path(place.folder / "learned")))
    assert open_bundle(Uri.of_path(place.folder / "learned" / "bundle")).id == place.base.id


def test_tracks_that_are_left_out_are_counted(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.fill([*GENRES] * 6, [str(number) for number in range(12)], failing=(3,))
    made = train_probe(place.request())
    assert (made.counts["tracks"], made.counts["without_embedding"]) == (11, 1)
    assert "left out: 1 track" in capsys.readouterr().err


def test_tracks_of_the_test_side_are_not_learned_from(place: Place) -> None:
    place.fill([*GENRES] * 6, [str(number) for number in range(12)])
    names = [f"{number:03}" for number in range(12)]
    place.list(names, [*GENRES] * 6, names, split="test")
    with pytest.raises(CatalogError, match="test side"):
        train_probe(place.request())


@pytest.mark.parametrize(
    ("genres", "artists", "error", "fault"),
    [
        ([None] * 4, ["a"] * 4, CatalogError, "no track has a genre"),
        (["ska", "blues"] * 2, ["a"] * 4, TrainingError, "by one artist"),
    ],
)
def test_what_cannot_be_learned(
    place: Place, genres: list[str | None], artists: list[str | None], error: type[Exception], fault: str
) -> None:
    place.fill(genres, artists)
    with pytest.raises(error, match=fault):
        train_probe(place.request())


def test_embeddings_of_another_bundle_are_refused(place: Place, tmp_path: Path) -> None:
    named = f"--bundle {tmp_path / 'base'}"
    with pytest.raises(LabelsError, match=f"there are no embeddings here; .*{named} "):
        train_probe(place.request())
    with pytest.raises(LabelsError, match="`mgc embed CATALOG --out EMBEDDINGS`"):
        train_probe(place.request(init=None))
    place.fill([*GENRES] * 4, [str(number) for number in range(8)])
    bundle(normalization=Normalization((100.0,) * 16, (50.25,) * 16)).save(tmp_path / "other")
    with pytest.raises(LabelsError, match=r"of 8 labelled tracks of .*, none has") as caught:
        train_probe(place.request(init=Uri.of_path(tmp_path / "other")))
    # Without the bundle's name, `mgc embed` would take that of the table.
    assert f"`mgc embed CATALOG --bundle {tmp_path / 'other'} --out EMBEDDINGS`" in str(caught.value)
    assert "without --init" in str(caught.value)
    # With other genres, the ears are the same.
    bundle(taxonomy=bundle().taxonomy.flat(["a", "b", "c"])).save(tmp_path / "other")
    assert train_probe(place.request(init=Uri.of_path(tmp_path / "other"))).counts["tracks"] == 8


def test_fields_of_a_probe(place: Place) -> None:
    arguments = ["--recipe", "probe", "--features", str(place.embeddings), "--out", str(place.out)]
    with pytest.raises(UsageError, match="--catalog"):
        command.main(arguments, standalone_mode=False)
    arguments += ["--catalog", str(place.catalog)]
    with pytest.raises(UsageError, match=r"no field training\.epochs; its fields are model\.hidden, training\.seed"):
        command.main([*arguments, "--training.epochs", "3"], standalone_mode=False)
    with pytest.raises(UsageError, match=r"--model\.hidden many"):
        command.main([*arguments, "--model.hidden", "many"], standalone_mode=False)


def test_the_untagged_are_labelled_and_nothing_is_lost(place: Place) -> None:
    genres: list[str | None] = [*GENRES] * 10 + [None] * 4
    # Tracks 20 to 23 have no tag; 22 is no audio. Track 0 sounds like the other genre.
    place.fill([*GENRES] * 12, [str(number) for number in range(24)], failing=(22,))
    names = [f"{number:03}" for number in range(24)]
    place.list(names, ["ska", *genres[1:]], names)
    train_probe(place.request())
    table, probe, catalog = EmbeddingsTable(place.embeddings), open_bundle(place.out), open_catalog(place.catalog)
    answers = answer_embeddings(table, Model(place.base.embedding_id, place.base.features_id), probe)
    assert answers.num_rows == 23
    honest = pq.read_table(io.BytesIO((place.folder / "bundle" / HONEST).read_bytes()))
    assert honest.num_rows == 20
    labels = label_catalog(catalog.tracks, table, answers, honest)
    rows = {row["track_id"]: row for row in labels.to_pylist()}
    assert sorted(rows) == names
    assert (rows["000"]["genre_top"], rows["000"]["labelled_by"], rows["000"]["ears_genre"]) == ("ska", "tag", "blues")
    assert [rows[name]["labelled_by"] for name in names[20:]] == ["ears", "ears", None, "ears"]
    assert [rows[name]["genre_top"] for name in names[20:]] == ["blues", "ska", None, "ska"]
    assert rows["022"]["error_kind"] == "not_audio"
    assert rows["021"]["error_kind"] is None
    differ = disagreements(labels, honest)
    assert differ["track_id"].to_pylist()[0] == "000"
    assert None not in differ["tag_genre"].to_pylist()
    page = render(
        Findings(
            "s3://music",
            probe,
            labels,
            differ,
            {"tracks": 24, "by_tag": 20, "by_ears": 3, "without_label": 1, "disagree": differ.num_rows},
        )
    )
    assert "000" in page
    assert "not_audio" in page
    # An embedding's answer is the one that the bundle gives.
    vector = next(row for row in table.dataset().to_table().to_pylist() if row["track_id"] == "021")["embedding"]

    with torch.inference_mode():
        logits = probe.model.classify(torch.tensor([vector])).numpy()
    assert rows["021"]["confidence"] == pytest.approx(float(track_probabilities(logits).max()))


SPEECH, SONG = 0, 1


def sounding(place: Place, sounds: list[int], genres: list[str | None]) -> list[dict[str, Any]]:
    """Train a probe on tracks that are speech or songs. Returns the labels that `mgc learn` would write, by track."""
    random, apart = np.random.default_rng(0), embeddings()
    place.embed([apart[sound] * (1 + 1e-3 * random.normal(size=place.width)) for sound in sounds])
    names = [f"{number:03}" for number in range(len(sounds))]
    place.list(names, genres, names)
    train_probe(place.request())
    table, probe, catalog = EmbeddingsTable(place.embeddings), open_bundle(place.out), open_catalog(place.catalog)
    answers = answer_embeddings(table, Model(probe.embedding_id, probe.features_id), probe)
    assert answers.num_rows == len(sounds)
    honest = pq.read_table(io.BytesIO((place.folder / "bundle" / HONEST).read_bytes()))
    labels = label_catalog(catalog.tracks, table, answers, honest)
    assert labels["track_id"].to_pylist() == names
    assert not {row["track_id"] for row in disagreements(labels, honest).to_pylist() if row["error_kind"]}
    rows: list[dict[str, Any]] = labels.to_pylist()
    return rows


def test_an_embedded_track_without_music_gets_no_genre(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(tmp_path, talking_bundle())
    # The last tagged track of ska is speech; of those without a tag, one is.
    sounds = [SONG] * 11 + [SPEECH] + [SONG, SPEECH]
    rows = sounding(place, sounds, [*GENRES] * 6 + [None, None])
    assert [row["labelled_by"] for row in rows] == ["tag"] * 12 + ["ears", None]
    assert [row["error_kind"] for row in rows] == [None] * 11 + ["not_music", None, "not_music"]
    assert "Speech" in rows[13]["error_message"]
    assert (rows[13]["genre_top"], rows[13]["confidence"], rows[13]["top_k"]) == (None, None, None)
    # A tag is never overruled, but the ears have no genre to compare it with.
    assert (rows[11]["genre_top"], rows[11]["ears_genre"], rows[11]["confidence"]) == ("ska", None, None)
    assert "counts as music" not in capsys.readouterr().err


def test_speech_that_has_a_genre_is_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(tmp_path, talking_bundle())
    rows = sounding(place, [SPEECH, SONG] * 7, ["Audiobook", "ska"] * 6 + [None, None])
    assert [row["error_kind"] for row in rows] == [None] * 14
    assert [row["ears_genre"] for row in rows] == ["Audiobook", "ska"] * 7
    assert "Audiobook: half or more of its tracks are Speech by ear" in capsys.readouterr().err


def test_a_base_that_knows_more_makes_another_probe(tmp_path: Path) -> None:
    base = talking_bundle()
    place = Place(tmp_path, base)
    names = [f"{number:03}" for number in range(12)]
    place.embed([embeddings()[SONG]] * 12)
    place.list(names, [*GENRES] * 6, names)
    assert base.tags is not None
    deaf = replace(base, tags=replace(base.tags, vocabulary=replace(base.tags.vocabulary, music=(), silence=())))
    deaf.save(tmp_path / "base")
    assert train_probe(place.request()).status == "done"
    assert open_bundle(place.out).sounds is None
    base.save(tmp_path / "base")
    assert train_probe(place.request(overwrite=True)).status == "done"
    assert open_bundle(place.out).sounds == base.vocabulary
    assert train_probe(place.request(overwrite=True)).status == "up_to_date"
