"""`mgc embed` and `mgc label --embeddings` on a real Ray: what is heard, how often, and what is kept of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.bundles import answer_in
from cluster.embeddings.table import EmbeddingsTable
from cluster.labels.log import RUN_FACTS
from cluster.labels.runs.table import RunTable
from cluster.labels.table import LabelsTable
from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from mgc import load_bundle
from mgc.bundle_names import BundleName
from mgc.errors import AudioError, ConfigError
from mgc.graphs.export import CLOSE
from pipelines.nights.embed import embed
from pipelines.nights.label import label
from pipelines.nights.requests import EmbedRequest, LabelRequest, NightRequest
from tests.support.good_files import good_files
from tests.support.nights import held, refusal

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """A file of each format, and one that is none."""
    folder = tmp_path / "music"
    folder.mkdir()
    for file in good_files():
        (folder / file.name).write_bytes(file.data)
    (folder / "none.mp3").write_bytes(b"no music at all" * 100)
    return folder


def runs(table: RunTable) -> list[dict[str, Any]]:
    """What the commits of a table say of their runs, newest first."""
    return [json.loads(entry[RUN_FACTS]) for entry in table.delta.history()]


def sizes(music: Path, *names: str) -> int:
    return sum((music / name).stat().st_size for name in names)


def replace(path: Path, by: Path) -> None:
    """Give a file other bytes, and so another content tag."""
    path.unlink()
    path.write_bytes(by.read_bytes() + b"\0" * 100)


def check(rows: dict[str, dict[str, Any]], music: Path) -> int:
    """Compare each row with what the bundle says of the file in this process. Returns the number of embeddings."""
    bundle, found = load_bundle(), 0
    assert sorted(rows) == sorted(path.name for path in music.iterdir())
    for name, row in rows.items():
        assert (row["embedding"] is None) == (row["windows"] is None) == (row["error_kind"] is not None)
        assert row["model_id"] == bundle.embedding_id
        if row["error_kind"] is not None:
            with pytest.raises(AudioError) as refused:
                bundle.embed(music / name)
            assert row["error_kind"] == refused.value.kind
            continue
        wanted_D = bundle.embed(music / name)
        np.testing.assert_allclose(row["embedding"], wanted_D, rtol=CLOSE, atol=CLOSE)
        found += 1
    assert found > 1
    assert rows["none.mp3"]["error_kind"] == "not_audio"
    return found


def test_a_second_run_hears_only_what_changed(ray_session: Profile, music: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in music.iterdir())
    out = Uri.of_path(tmp_path / "embeddings")
    request = EmbedRequest(Uri.of_path(music), out, profile=ray_session)
    first = embed(request)
    rows = held(out, EmbeddingsTable)
    embedded = check(rows, music)
    assert (first.status, first.counts["embedded"], first.counts["failed"]) == ("done", embedded, len(names) - embedded)
    [run] = runs(EmbeddingsTable(out))
    assert run["measured"]["bytes_read"] == sizes(music, *names)

    second = embed(request)
    assert (second.status, second.counts["up_to_date"], second.counts["embedded"]) == ("up_to_date", len(names), 0)
    assert EmbeddingsTable(out).version == 0

    changed = next(name for name in names if name.endswith(".wav"))
    replace(music / changed, music / names[0])
    third = embed(request)
    assert (third.counts["changed"], third.counts["up_to_date"]) == (1, len(names) - 1)
    assert runs(EmbeddingsTable(out))[0]["measured"]["tracks"] == 1
    assert runs(EmbeddingsTable(out))[0]["measured"]["bytes_read"] == sizes(music, changed)
    after = held(out, EmbeddingsTable)
    assert {name for name in names if after[name] != rows[name]} == {changed}


def test_a_run_in_which_everything_fails_is_no_success(ray_session: Profile, tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    (music / "a.mp3").write_bytes(b"no music at all" * 100)
    request = EmbedRequest(Uri.of_path(music), Uri.of_path(tmp_path / "out"), BundleName.SHIPPED, profile=ray_session)
    made = embed(request)
    assert (made.status, len(made.alarms), made.counts["failed"]) == ("done", 1, 1)
    # What failed before fails again: that is known.
    assert embed(dataclasses.replace(request, retry_all=True)).alarms == []


def test_label_keeps_embeddings_of_what_it_hears_once(ray_session: Profile, music: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in music.iterdir())
    labels, out = Uri.of_path(tmp_path / "labels"), Uri.of_path(tmp_path / "embeddings")
    request = LabelRequest(NightRequest(Uri.of_path(music), labels), ray_session, embeddings=out)
    first = label(request)
    assert first.status == "done"
    assert first.outputs["embeddings"] == str(out)
    rows, answers, bundle = held(out, EmbeddingsTable), held(labels), load_bundle()
    embedded = check(rows, music)
    assert (first.counts["labeled"], first.counts["embeddings_embedded"]) == (embedded, embedded)
    for name in names:
        for column in ("error_kind", "error_message", "duration_seconds", "content_tag", "damage"):
            assert rows[name][column] == answers[name][column]
        if answers[name]["error_kind"] is None:
            assert answers[name]["genre_top"] == bundle.label(music / name).genre_top
    # The pass of the labels has heard everything, and the embeddings needed none of their own.
    [of_labels], [of_embeddings] = runs(LabelsTable(labels)), runs(EmbeddingsTable(out))
    assert of_labels["measured"]["tracks"] == len(names)
    assert of_labels["measured"]["bytes_read"] == sizes(music, *names)
    assert of_embeddings["measured"]["tracks"] == 0

    # Other words are a matter of the labels. The next night keeps them, and so does the one after it.
    words = Uri.of_path(tmp_path / "words.csv")
    genres = bundle.taxonomy.names
    words.local.write_text("genre,tag\n" + "".join(f"{'AB'[genre > genres[3]]},{genre}\n" for genre in genres))
    spoken = label(LabelRequest(dataclasses.replace(request.night, taxonomy=words), ray_session, embeddings=out))
    assert (spoken.counts["other_model"], spoken.counts["labeled"]) == (len(names), embedded)
    assert (spoken.counts["embeddings_other_model"], spoken.counts["embeddings_embedded"]) == (0, 0)
    assert held(out, EmbeddingsTable) == rows
    [run, _] = runs(LabelsTable(labels))
    chosen = answer_in(bundle, words)
    assert (run["taxonomy"], run["bundle_id"], run["model_id"]) == (str(words), bundle.id, chosen.id)
    for name, row in held(labels).items():
        assert row["model_id"] == chosen.id
        if row["error_kind"] is None:
            assert row["genre_top"] == chosen.label(music / name).genre_top
    assert str(words) in Path(spoken.outputs["report"]).read_text()
    assert label(request).status == "up_to_date"

    # Tracks that only the embeddings lack are heard for them alone.
    elsewhere = Uri.of_path(tmp_path / "elsewhere")
    again = label(LabelRequest(request.night, ray_session, embeddings=elsewhere))
    assert (again.status, again.counts["up_to_date"]) == ("done", len(names))
    assert LabelsTable(labels).version == 1
    assert {name: row["embedding"] for name, row in held(elsewhere, EmbeddingsTable).items()} == {
        name: row["embedding"] for name, row in rows.items()
    }


def test_the_guard_stops_both_tables(ray_session: Profile, music: Path, tmp_path: Path) -> None:
    labels, out = Uri.of_path(tmp_path / "labels"), Uri.of_path(tmp_path / "embeddings")
    request = LabelRequest(NightRequest(Uri.of_path(music), labels), ray_session, embeddings=out)
    label(request)
    names = sorted(path.name for path in music.iterdir())
    for name in names[1:]:
        (music / name).unlink()
    refused = label(LabelRequest(request.night, ray_session, guard={"removed": "0.5"}, embeddings=out))
    assert refused.refused
    assert (LabelsTable(labels).version, EmbeddingsTable(out).version) == (0, 0)
    accepted = label(
        LabelRequest(request.night, ray_session, guard={"removed": "0.5"}, accept=("removed",), embeddings=out)
    )
    assert (accepted.counts["removed"], accepted.counts["embeddings_removed"]) == (len(names) - 1, len(names) - 1)
    assert all(row["removed_at"] is not None for name, row in held(out, EmbeddingsTable).items() if name != names[0])


def test_both_tables_in_one_folder_are_refused(tmp_path: Path, music: Path) -> None:
    folder = Uri.of_path(tmp_path / "both")
    request = LabelRequest(NightRequest(Uri.of_path(music), folder), embeddings=folder)
    assert str(folder) in refusal(label, request, error=ConfigError)
    assert not Path(folder.path).exists()
