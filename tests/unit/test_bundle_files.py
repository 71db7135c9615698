from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

import mgc
from mgc.bundle import load_bundle
from mgc.bundle_files import FILES
from mgc.errors import BundleError, StorageError
from mgc.features.mel import LogMel
from mgc.features.normalization import Normalization
from tests.unit.small_bundle import ADJUSTMENT, bundle


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    bundle().save(tmp_path / "b")
    return tmp_path / "b"


def refused(path: Path | str, **options: Any) -> str:
    with pytest.raises(BundleError) as raised:
        load_bundle(path, **options)
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(f"bundle {path}")
    assert len(message) < 600
    return message.removeprefix(f"bundle {path}")


@pytest.mark.parametrize("name", [name for name in FILES if name != "calibration.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert refused(saved) == f": {name} is missing. Copy it again, or train it again."


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("data", [b"", b"\xff\xfe{", b"{", b"[" * 100_000, b"3", b"null"])
def test_a_corrupt_file_is_named(saved: Path, name: str, data: bytes) -> None:
    (saved / name).write_bytes(data)
    message = refused(saved)
    assert message.startswith(
        (f": {name} is not JSON (", f": {name} holds no JSON", f": {name} is corrupt: no safetensors")
    )
    assert message.endswith(". Copy it again, or train it again.")


@pytest.mark.parametrize("place", [8, 40, -1000, -1])
def test_one_changed_byte_of_the_weights_is_found(saved: Path, place: int) -> None:
    data = bytearray((saved / "model.safetensors").read_bytes())
    data[place] ^= 1
    (saved / "model.safetensors").write_bytes(data)
    assert "is corrupt" in refused(saved)


def edit_value(path: Path, edit: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps(edit(value) or value))


BY_HAND = " is corrupt or was changed by hand: it states id "


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("taxonomy.json", lambda value: value.reverse(), BY_HAND),
        ("taxonomy.json", lambda value: value[2].update(name="jazz"), BY_HAND),
        ("taxonomy.json", lambda value: value[:2], "not the weights of this house_cnn with 2 outputs"),
        (
            "taxonomy.json",
            lambda value: value[2].update(name="rock"),
            "taxonomy.json is corrupt: taxonomy: the genre(s) rock",
        ),
        (
            "taxonomy.json",
            lambda value: value[1].update(parent="pop"),
            "taxonomy.json is corrupt: taxonomy: the parent(s) pop",
        ),
        ("normalization.json", lambda value: value["offset"].__setitem__(3, 1.0), BY_HAND),
        (
            "normalization.json",
            lambda value: {"offset": [1.0], "scale": [1.0], "unit_length": False},
            "is for 1 bins, but the front end gives 16",
        ),
        (
            "normalization.json",
            lambda value: value.pop("offset") and None,
            "normalization.json is corrupt: a normalisation is",
        ),
        ("calibration.json", lambda value: value.update(adjustment={"tau": 1.0, "priors": [0.5, 0.25, 0.25]}), BY_HAND),
        (
            "calibration.json",
            lambda value: value.update(adjustment={"tau": 1}),
            "calibration.json is corrupt: an adjust",
        ),
        (
            "calibration.json",
            lambda value: value.update(adjustment={"tau": 1, "priors": [1]}),
            "adjustment has 1 genre,",
        ),
        (
            "normalization.json",
            lambda value: value["scale"].__setitem__(3, 0.0),
            "scales finite and greater than",
        ),
        ("experiment.json", lambda value: value.update(bundle_id="0" * 12), BY_HAND),
        ("experiment.json", lambda value: value.pop("bundle_id") and None, BY_HAND),
        ("experiment.json", lambda value: value["listening"].update(windows=9), BY_HAND),
        ("experiment.json", lambda value: value["model"].update(blocks=2), "not the weights of this house_cnn with 3"),
        (
            "experiment.json",
            lambda value: value["model"].update(kind="resnet"),
            "experiment.json: model.kind: input should",
        ),
        (
            "experiment.json",
            lambda value: value["training"].update(epochs="x"),
            "experiment.json: training.epochs: input",
        ),
        (
            "experiment.json",
            lambda value: value["front_end"].update(top_db=60.0),
            "the front end log_mel of this mgc computes",
        ),
        (
            "experiment.json",
            lambda value: value.update(format_version=2, model={"kind": "new"}),
            ", experiment.json: format version 2, this mgc reads up to 1; upgrade mgc.",
        ),
    ],
)
def test_an_edited_file_is_refused(saved: Path, name: str, edit: Callable[[Any], Any], message: str) -> None:
    edit_value(saved / name, edit)
    assert message in refused(saved)


def test_a_newer_format_is_told_before_anything_is_missed(saved: Path) -> None:
    edit_value(saved / "experiment.json", lambda value: value.update(format_version=2))
    (saved / "normalization.json").unlink()
    assert "upgrade mgc" in refused(saved)


def test_a_front_end_that_computes_other_numbers_now_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bundle().features_id
    monkeypatch.setattr(LogMel, "NUMBERS", LogMel.NUMBERS + 1)
    assert f"it was trained on features {before}, the front end log_mel of this mgc computes" in refused(saved)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none").startswith(": there is no such directory. A bundle is a directory")
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file").startswith(": this is a file. A bundle is a directory")
    assert "experiment.json is missing" in refused(tmp_path)
    assert refused("gopher://host/b").startswith(" cannot be opened: ")


def test_credentials_in_a_uri_are_not_repeated() -> None:
    with pytest.raises(BundleError) as raised:
        load_bundle("gopher://someone:secret@host/b")
    assert "secret" not in str(raised.value).split("cannot be opened")[0]
    assert "gopher://host/b" in str(raised.value)


def test_any_filesystem_of_pyarrow_will_do(saved: Path) -> None:
    inside = fs.SubTreeFileSystem(str(saved.parent), fs.LocalFileSystem())
    assert load_bundle("b", inside).id == bundle().id
    assert load_bundle("b/", inside).id == bundle().id
    assert load_bundle(saved.as_uri()).id == bundle().id
    assert refused("c", filesystem=inside).startswith(": there is no such directory")
    (saved / "taxonomy.json").unlink()
    assert refused("b", filesystem=inside).startswith(": taxonomy.json is missing")


def test_a_relative_path_and_home(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    monkeypatch.setenv("HOME", str(saved.parent))
    assert load_bundle("b").id == load_bundle("~/b").id == mgc.load_bundle(Path("b")).id


def test_saving_again_replaces(saved: Path) -> None:
    changed = bundle(normalization=Normalization((0.0,) * 16, (1.0,) * 16))
    assert changed.save(saved) == load_bundle(saved).id != bundle().id


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=rf"^bundle {re.escape(str(tmp_path / 'file'))} cannot be written: \w"):
        bundle().save(tmp_path / "file")


def test_an_adjustment_that_is_lost_is_missed(tmp_path: Path) -> None:
    bundle(adjustment=ADJUSTMENT).save(tmp_path / "b")
    (tmp_path / "b" / "calibration.json").unlink()
    assert BY_HAND in refused(tmp_path / "b")
