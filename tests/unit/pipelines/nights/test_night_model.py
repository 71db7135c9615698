"""Which bundle a night takes: a table stays with the one that labelled it until a person names another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.bundles import open_bundle, save_bundle
from cluster.embeddings.table import EmbeddingsTable
from cluster.labels.history import LabeledBy, commits, find_labeler, rollback
from cluster.labels.policy import Policy
from cluster.labels.table import LabelsTable
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.bundle_names import BundleName
from mgc.bundle_start import put_head
from mgc.errors import BundleError
from mgc.labeling import tag_maps
from mgc.labeling.config import LabelingConfig
from mgc.models.architecture import build_model
from mgc.models.guess import GuessConfig
from mgc.models.probe import build_head
from pipelines import label as label_job
from pipelines.command.job import run
from pipelines.models.choice import Model, advise_pull, choose_model
from pipelines.nights.embed import embed, plan_embeddings
from pipelines.nights.requests import EmbedRequest
from tests.support.nights import catalog, embedding_night, night, planned, refusal
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


@pytest.mark.parametrize(("genre", "code"), [("Rock", 0), ("Rok", 1)])
def test_a_check_opens_what_a_night_is_given_and_does_nothing(
    genre: str, code: int, tmp_path: Path, uri: Uri, capsys: pytest.CaptureFixture[str]
) -> None:
    """The catalog is not there, so nothing but the check could end well."""
    corrections = tmp_path / "corrections.csv"
    corrections.write_text(f"track_id,genre,by\na.mp3,{genre},me\n")
    words = [str(tmp_path / "catalog.parquet"), "--labels", str(uri), "--bundle", "shipped"]
    assert run(label_job.command, [*words, "--overrides", str(corrections), "--check"]) == code
    assert ("Rok" in capsys.readouterr().err) == (code == 1)
    assert list(tmp_path.iterdir()) == [corrections]


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


LOUD = "genre,tag\nloud,rock\nloud,punk\nsoft,folk\n"


@pytest.fixture
def words(tmp_path: Path) -> Uri:
    """A file that says in other words what the small bundle says."""
    (tmp_path / "words.csv").write_text(LOUD)
    return Uri.of_path(tmp_path / "words.csv")


def label_with(uri: Uri, model: Model, tracks: str = "ab", version: str = "1") -> None:
    """A night by a model, recorded as the job records it."""
    about: dict[str, Any] = {"status": "done", "model_id": model.bundle.id, "features_id": model.bundle.features_id}
    made = dict.fromkeys(tracks, version)
    night(uri, made, model=model.bundle.id, features=model.bundle.features_id, about=about | model.to_json())


def test_a_person_chooses_words(cache: Path, uri: Uri, words: Uri) -> None:
    another().save(cache / "mn04")
    chosen = choose_model(BundleName.MN04, LabelsTable(uri), words)
    assert chosen.bundle.taxonomy.names == ("loud", "soft")
    assert (chosen.taxonomy, chosen.bundle_id) == (words, another().id)
    assert chosen.bundle.id != another().id
    assert choose_model(None, None, words).bundle.id == chosen.bundle.id


def test_a_table_stays_with_its_words(cache: Path, uri: Uri, words: Uri) -> None:
    another().save(cache / "mn04")
    first = choose_model(None, LabelsTable(uri), words)
    label_with(uri, first)
    assert find_labeler(LabelsTable(uri)) == LabeledBy(first.bundle.id, "mn04", str(words), another().id)
    again = choose_model(None, LabelsTable(uri))
    assert (again.bundle.id, again.taxonomy, again.bundle_id) == (first.bundle.id, words, another().id)
    ids = {"model": again.bundle.id, "features": again.bundle.features_id}
    assert planned(LabelsTable(uri), {"a": "1", "b": "1"}, **ids).empty
    # And its next night is recorded as the first one was.
    label_with(uri, again, "abc")
    assert choose_model(None, LabelsTable(uri)).bundle.id == first.bundle.id
    # A bundle that a person names speaks for itself.
    plain = choose_model(BundleName.MN04, LabelsTable(uri))
    assert (plain.bundle.id, plain.taxonomy, plain.to_json()) == (another().id, None, {"bundle": "mn04"})
    label_with(uri, plain, "abc")
    assert choose_model(None, LabelsTable(uri)).bundle.id == another().id


@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
def test_other_words_go_to_the_bundle_of_the_table(
    cache: Path, uri: Uri, words: Uri, tmp_path: Path, gone: bool
) -> None:
    """Whatever has become of the words before."""
    folder = Uri.of_path(tmp_path / "mine")
    save_bundle(another(), folder)
    label_with(uri, choose_model(folder, LabelsTable(uri), words))
    if gone:
        words.local.unlink()
    (tmp_path / "more.csv").write_text("genre,tag\nheavy,punk\nlight,folk\nlight,rock\n")
    more = Uri.of_path(tmp_path / "more.csv")
    chosen = choose_model(None, LabelsTable(uri), more)
    assert (chosen.place, chosen.taxonomy, chosen.bundle_id) == (folder, more, another().id)
    assert chosen.bundle.taxonomy.names == ("heavy", "light")


@pytest.mark.parametrize(
    ("text", "fault"),
    [("genre,tag\nloud,punk\nsoft,folk\n", "has changed"), ("genre,tag\nloud,polka\n", "polka"), (None, "nothing")],
    ids=["changed", "broken", "gone"],
)
def test_words_that_are_not_as_they_were_are_named(
    cache: Path, uri: Uri, words: Uri, text: str | None, fault: str
) -> None:
    another().save(cache / "mn04")
    label_with(uri, choose_model(None, LabelsTable(uri), words))
    if text is None:
        words.local.unlink()
    else:
        words.local.write_text(text)
    line = refusal(choose_model, None, LabelsTable(uri))
    for part in (str(uri), str(words), fault, "--taxonomy", "--bundle mn04"):
        assert part in line


def test_a_map_that_is_another_one_in_this_mgc_is_named(
    cache: Path, uri: Uri, words: Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    another().save(cache / "mn04")
    maps = words.local.parent
    monkeypatch.setattr(tag_maps, "_FOLDER", maps)
    (maps / "plain.genres.csv").write_text(LOUD)
    label_with(uri, choose_model(None, LabelsTable(uri), "plain"))
    assert choose_model(None, LabelsTable(uri)).taxonomy == "plain"
    (maps / "plain.genres.csv").write_text(LOUD.replace("soft", "quiet"))
    line = refusal(choose_model, None, LabelsTable(uri))
    for part in (str(uri), "taxonomy plain", "in this mgc", "--taxonomy"):
        assert part in line


def test_the_same_words_written_otherwise_are_the_same(cache: Path, uri: Uri, words: Uri) -> None:
    another().save(cache / "mn04")
    label_with(uri, choose_model(None, LabelsTable(uri), words))
    words.local.write_text("# why\nGenre, tag , weight\n\nloud,ROCK,1\nloud,punk,1.0\nsoft,folk,\n")
    assert choose_model(None, LabelsTable(uri)).taxonomy == words


def test_a_bundle_that_changed_is_named_whatever_the_words(cache: Path, uri: Uri, words: Uri) -> None:
    another(2.0).save(cache / "mn04")
    label_with(uri, choose_model(None, LabelsTable(uri), words))
    another(4.0).save(cache / "mn04")
    for taxonomy in (None, words):
        line = refusal(choose_model, None, LabelsTable(uri), taxonomy)
        assert another(2.0).id in line
        assert another(4.0).id in line


def test_a_rollback_goes_back_to_the_words_too(cache: Path, uri: Uri, words: Uri) -> None:
    another().save(cache / "mn04")
    label_with(uri, choose_model(None, LabelsTable(uri), words))
    label_with(uri, choose_model(BundleName.MN04, LabelsTable(uri)))
    assert choose_model(None, LabelsTable(uri)).taxonomy is None
    rollback(uri, 0, commits(LabelsTable(uri)))
    assert choose_model(None, LabelsTable(uri)).taxonomy == words


def test_embeddings_do_not_depend_on_words(cache: Path, tmp_path: Path, words: Uri) -> None:
    """A table of embeddings finds its bundle by its ears: by the bundle itself, or by a probe in its place."""
    base = another()
    base.save(cache / "mn04")
    uri, tracks = Uri.of_path(tmp_path / "embeddings"), {"a": "1", "b": "1"}
    chosen = choose_model(None, EmbeddingsTable(uri), words)
    share = plan_embeddings(EmbeddingsTable(uri), catalog(tracks), chosen.bundle, None, None, Policy())
    assert share.plan.model_id == base.embedding_id
    ids = {"model": base.embedding_id, "features": base.features_id}
    embedding_night(uri, tracks, about={"bundle": "mn04", "model_id": base.embedding_id}, **ids)
    probe = put_head(base, build_head(12, 0, 2), ["blues", "ska"], "probe")
    assert choose_model(None, EmbeddingsTable(uri)).bundle.id == base.id
    probe.save(cache / "mn04")
    again = choose_model(None, EmbeddingsTable(uri))
    assert again.bundle.id == probe.id
    for model in (again.bundle, base, chosen.bundle):
        assert plan_embeddings(EmbeddingsTable(uri), catalog(tracks), model, None, None, Policy()).plan.empty
    deaf = another(7.0)
    deaf.save(cache / "mn04")
    assert deaf.embedding_id in refusal(choose_model, None, EmbeddingsTable(uri))


def test_a_guess_embeds_nothing(tmp_path: Path) -> None:
    guess = GuessConfig()
    model = build_model(guess, (16, 32), 3).eval()
    bundle(experiment=replace(EXPERIMENT, model=guess), model=model).save(tmp_path / "guess")
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.wav").write_bytes(b"not heard here")
    source, out, place = (Uri.of_path(tmp_path / name) for name in ("music", "embeddings", "guess"))
    with pytest.raises(BundleError, match="a guess has no embedding"):
        embed(EmbedRequest(source, out, place))
    assert not (tmp_path / "embeddings").exists()


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
