"""Which bundle a night takes: a table stays with the one that labelled it until a person names another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.bundles import open_bundle, save_bundle
from cluster.labels.history import LabeledBy, commits, find_labeler, rollback
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.bundle_names import BundleName
from mgc.labeling.config import LabelingConfig
from pipelines.models.choice import Model, advise_pull, choose_model
from tests.support.nights import night, planned, refusal
from tests.unit.small_bundle import EXPERIMENT, bundle


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for pulled bundles."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mgc" / "bundles"


@pytest.fixture
def uri(tmp_path: Path) -> Uri:
    return Uri.of_path(tmp_path / "labels")


def another(seconds: float = 2.0) -> Bundle:
    """A bundle with an id of its own."""

    return bundle(experiment=replace(EXPERIMENT, labeling=LabelingConfig(min_seconds=seconds)))


def label(uri: Uri, made: Bundle, place: str | None, tracks: str = "ab", version: str = "1") -> None:
    """A night by a bundle; `place` is where the log says that it was."""
    about: dict[str, Any] = {"status": "done", "model_id": made.id, "features_id": made.features_id}
    about |= {} if place is None else {"bundle": place}
    night(uri, dict.fromkeys(tracks, version), model=made.id, features=made.features_id, about=about)


def test_a_new_table_takes_the_best_that_is_there(cache: Path, uri: Uri) -> None:
    assert find_labeler(LabelsTable(uri)) is None
    assert choose_model(None, LabelsTable(uri)).place is BundleName.SHIPPED
    pulled = another().save(cache / "mn04")
    chosen = choose_model(None, LabelsTable(uri))
    assert (chosen.place, chosen.bundle.id, chosen.asked) == (BundleName.MN04, pulled, False)
    assert choose_model(None, None).bundle.id == pulled


def test_a_new_default_does_not_relabel_a_table(cache: Path, uri: Uri) -> None:
    shipped = open_bundle(BundleName.SHIPPED)
    label(uri, shipped, "shipped")
    another().save(cache / "mn04")
    chosen = choose_model(None, LabelsTable(uri))
    assert (chosen.place, chosen.bundle.id) == (BundleName.SHIPPED, shipped.id)
    plan = planned(LabelsTable(uri), {"a": "1", "b": "1"}, model=chosen.bundle.id, features=chosen.bundle.features_id)
    assert not plan.todo.num_rows


@pytest.mark.parametrize("asked", [BundleName.MN04, BundleName.DEFAULT])
def test_a_person_decides(cache: Path, uri: Uri, asked: BundleName) -> None:
    label(uri, open_bundle(BundleName.SHIPPED), "shipped")
    pulled = another().save(cache / "mn04")
    chosen = choose_model(asked, LabelsTable(uri))
    assert (chosen.place, chosen.bundle.id, chosen.asked) == (BundleName.MN04, pulled, True)


def test_a_bundle_in_a_folder_is_found_again(cache: Path, uri: Uri, tmp_path: Path) -> None:
    folder = Uri.of_path(tmp_path / "mine")
    made = another()
    save_bundle(made, folder)
    label(uri, made, str(folder))
    assert choose_model(None, LabelsTable(uri)).place == folder


def test_a_bundle_that_is_gone_is_named(cache: Path, uri: Uri, tmp_path: Path) -> None:
    made = another()
    label(uri, made, str(tmp_path / "mine"))
    line = refusal(choose_model, None, LabelsTable(uri))
    assert made.id in line
    assert str(tmp_path / "mine") in line
    assert "--bundle" in line


def test_another_bundle_in_its_place_is_named(cache: Path, uri: Uri) -> None:
    made, replaced = another(2.0), another(4.0)
    label(uri, made, "mn04")
    replaced.save(cache / "mn04")
    line = refusal(choose_model, None, LabelsTable(uri))
    assert made.id in line
    assert replaced.id in line


def test_a_bundle_that_is_not_pulled_here_is_named(cache: Path, uri: Uri) -> None:
    made = another()
    label(uri, made, "mn04")
    assert "`mgc pull mn04`" in refusal(choose_model, None, LabelsTable(uri))


@pytest.mark.parametrize("record", [True, False], ids=["id without a place", "no record"])
def test_the_bundle_of_a_table_by_an_older_mgc_is_found_by_its_id(cache: Path, uri: Uri, record: bool) -> None:
    made = another()
    if record:
        label(uri, made, None)
    else:
        night(uri, {"a": "1"}, model=made.id, features=made.features_id)
    assert find_labeler(LabelsTable(uri)) == LabeledBy(made.id, "")
    assert made.id in refusal(choose_model, None, LabelsTable(uri))
    bundle().save(cache / "mn01")
    made.save(cache / "musicnn")
    assert choose_model(None, LabelsTable(uri)).place is BundleName.MUSICNN


def test_an_older_table_by_the_shipped_bundle(cache: Path, uri: Uri) -> None:
    label(uri, open_bundle(BundleName.SHIPPED), None)
    another().save(cache / "mn04")
    assert choose_model(None, LabelsTable(uri)).place is BundleName.SHIPPED


def test_a_rollback_goes_back_to_the_bundle_too(cache: Path, uri: Uri, tmp_path: Path) -> None:
    first, second, third = another(2.0), another(3.0), another(4.0)
    label(uri, first, "musicnn")
    label(uri, second, "mn04")
    assert find_labeler(LabelsTable(uri)) == LabeledBy(second.id, "mn04")
    rollback(uri, 0, commits(LabelsTable(uri)))
    assert find_labeler(LabelsTable(uri)) == LabeledBy(first.id, "musicnn")
    label(uri, third, "shipped", "abc", "2")
    assert find_labeler(LabelsTable(uri)) == LabeledBy(third.id, "shipped")
    rollback(uri, 1, commits(LabelsTable(uri)))
    assert find_labeler(LabelsTable(uri)) == LabeledBy(second.id, "mn04")
    # Back to the version of the first rollback, which is that of the first night.
    rollback(uri, 2, commits(LabelsTable(uri)))
    assert find_labeler(LabelsTable(uri)) == LabeledBy(first.id, "musicnn")


@pytest.fixture
def shipped() -> Model:
    return Model(bundle(), BundleName.SHIPPED, False)


Change = Callable[[Path, pytest.MonkeyPatch], Model | None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cache, patch: None, True),
        (lambda cache, patch: Model(bundle(), BundleName.SHIPPED, True), False),
        (lambda cache, patch: Model(bundle(), BundleName.MN04, False), False),
        (lambda cache, patch: patch.setenv("MGC_OFFLINE", "1"), False),
        (lambda cache, patch: (bundle().save(cache / "musicnn"), None)[1], False),
    ],
    ids=["by default", "asked for", "another", "offline", "pulled already"],
)
def test_a_pull_is_advised_where_only_the_shipped_bundle_is_there(
    change: Change,
    said: bool,
    cache: Path,
    shipped: Model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MGC_OFFLINE", raising=False)
    advise_pull(change(cache, monkeypatch) or shipped)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == said
    assert all("`mgc pull mn04`" in line for line in lines)
