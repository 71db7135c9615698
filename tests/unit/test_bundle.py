from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
from pyarrow import fs

import mgc
from mgc.audio.excerpts import ListeningPlan
from mgc.bundle import FILES, TRAINED_ON, Bundle, load_bundle
from mgc.errors import AudioError, BundleError, ErrorKind, StorageError
from mgc.evaluation.leakage import Groups
from mgc.experiment import Experiment
from mgc.features.extract import Extract
from mgc.features.mel import LogMel, LogMelConfig
from mgc.features.normalization import Normalization
from mgc.labeling.adjust import PriorAdjustment
from mgc.models.architecture import build_model
from mgc.models.house import HouseCnnConfig
from mgc.taxonomy import Genre, Taxonomy
from mgc.training.loop import TrainingConfig

EXPERIMENT = Experiment(
    recipe="test",
    front_end=LogMelConfig(n_mels=16, clip_seconds=1.0, frames=32),
    listening=ListeningPlan(window_seconds=2.0, windows=2),
    model=HouseCnnConfig(channels=(4, 6), blocks=1),
    training=TrainingConfig(),
)
TAXONOMY = Taxonomy((Genre("rock"), Genre("punk", "rock"), Genre("folk")))
ADJUSTMENT = PriorAdjustment.from_counts(1.0, (70, 20, 10))
METRICS = {"history": [{"epoch": 1, "loss": 1.5}], "notices": ["synthetic, not music"]}


def bundle(**change: Any) -> Bundle:
    torch.manual_seed(0)
    model = build_model(EXPERIMENT.model, (16, 32), 3).to(memory_format=torch.channels_last).eval()
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    fields = {
        "experiment": EXPERIMENT,
        "taxonomy": TAXONOMY,
        "normalization": Normalization(tuple(100.0 + row for row in range(16)), (50.25,) * 16),
        "model": model,
        "metrics": METRICS,
    }
    return Bundle(**(fields | change))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    bundle().save(tmp_path / "b")
    return tmp_path / "b"


def clips(count: int = 11) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 32), dtype=np.uint8)


def sound(seconds: float) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16000)).astype(np.float32)
    soundfile.write(stream, noise, 16000, format="WAV")
    return stream.getvalue()


def test_what_is_loaded_is_what_was_saved(saved: Path) -> None:
    first, second = bundle(), load_bundle(saved)
    assert second.id == first.id
    assert second.features_id == first.features_id
    assert second.experiment == EXPERIMENT
    assert second.taxonomy == TAXONOMY
    assert second.normalization == first.normalization
    assert second.metrics == METRICS
    assert not second.model.training
    np.testing.assert_array_equal(second.predictor().logits(clips()), first.predictor().logits(clips()))


def test_the_files_are_safetensors_and_json(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == set(FILES)
    for path in saved.glob("*.json"):
        json.loads(path.read_text())
    assert safetensors.torch.load_file(saved / "model.safetensors").keys() == bundle().model.state_dict().keys()
    facts = json.loads((saved / "experiment.json").read_text())
    assert (facts["bundle_id"], facts["features_id"]) == (bundle().id, bundle().features_id)


def test_what_it_was_trained_on_travels_with_it_and_changes_nothing_else(saved: Path) -> None:
    noted = bundle(trained_on=Groups(np.array([-3, 5, 2**62])))
    assert noted.id == bundle().id
    noted.save(saved)
    assert {path.name for path in saved.iterdir()} == {*FILES, TRAINED_ON}
    again = load_bundle(saved)
    assert again.id == bundle().id
    assert again.trained_on is not None
    assert again.trained_on.hashes.tolist() == [-3, 5, 2**62]
    (saved / TRAINED_ON).write_bytes(b"no safetensors")
    with pytest.raises(BundleError, match=r"trained_on.safetensors is corrupt: no safetensors"):
        load_bundle(saved)
    bundle().save(saved)
    assert load_bundle(saved).trained_on is None


def test_nothing_is_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch, "save", refuse)
    assert bundle().save(tmp_path / "b") == load_bundle(tmp_path / "b").id


def test_the_id_is_pinned_to_what_determines_the_answers() -> None:
    """A change here makes every row of every labels table stale."""
    model = build_model(EXPERIMENT.model, (16, 32), 3)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) % 7)
    assert bundle(model=model).id == "d5b8a1af5d62"


def other_model() -> torch.nn.Module:
    model = bundle().model
    with torch.no_grad():
        model.head.bias[0] += 1e-6
    return model


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": replace(EXPERIMENT, listening=ListeningPlan(window_seconds=2.0, windows=3))},
        {"experiment": replace(EXPERIMENT, front_end=replace(EXPERIMENT.front_end, top_db=70.0))},
        {"experiment": replace(EXPERIMENT, model=replace(EXPERIMENT.model, dropout=0.1))},
        {"taxonomy": Taxonomy((Genre("rock"), Genre("folk"), Genre("punk", "rock")))},
        {"taxonomy": Taxonomy((Genre("rock"), Genre("punk"), Genre("folk")))},
        {"normalization": Normalization((100.0,) * 16, (50.25,) * 16)},
        {"normalization": replace(bundle().normalization, unit_length=True)},
        {"model": other_model()},
        {"adjustment": ADJUSTMENT},
    ],
)
def test_the_id_changes_with_what_determines_the_answers(change: dict[str, Any]) -> None:
    assert bundle(**change).id != bundle().id


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": replace(EXPERIMENT, training=TrainingConfig(epochs=99, seed=3))},
        {"experiment": replace(EXPERIMENT, recipe="renamed", deviations=("none",))},
        {"metrics": {}},
        {"adjustment": None},
        {"model": bundle().model.to(memory_format=torch.contiguous_format)},
    ],
)
def test_the_id_does_not_change_with_what_does_not(change: dict[str, Any]) -> None:
    assert bundle(**change).id == bundle().id


def test_an_adjustment_stays_with_the_bundle_and_changes_its_answers(tmp_path: Path) -> None:
    made = bundle(adjustment=ADJUSTMENT)
    made.save(tmp_path / "b")
    loaded = load_bundle(tmp_path / "b")
    assert loaded.adjustment == ADJUSTMENT
    assert loaded.id == made.id
    shift_G = np.log(np.array([0.7, 0.2, 0.1]))
    wanted_NG = bundle().predictor().logits(clips()) - shift_G
    np.testing.assert_allclose(loaded.predictor().logits(clips()), wanted_NG, rtol=1e-6)
    other = bundle(adjustment=PriorAdjustment.from_counts(2.0, (70, 20, 10)))
    assert len({bundle().id, made.id, other.id}) == 3


def test_a_bundle_of_before_there_were_adjustments_is_what_it_was(saved: Path) -> None:
    (saved / "calibration.json").unlink()
    loaded = load_bundle(saved)
    assert loaded.adjustment is None
    assert loaded.id == bundle().id
    assert load_bundle().adjustment is None


def test_saving_over_an_adjusted_bundle_leaves_nothing_of_it(tmp_path: Path) -> None:
    bundle(adjustment=ADJUSTMENT).save(tmp_path / "b")
    bundle().save(tmp_path / "b")
    assert load_bundle(tmp_path / "b").id == bundle().id


def test_an_adjustment_that_is_lost_is_missed(tmp_path: Path) -> None:
    bundle(adjustment=ADJUSTMENT).save(tmp_path / "b")
    (tmp_path / "b" / "calibration.json").unlink()
    assert BY_HAND in refused(tmp_path / "b")


def test_an_adjustment_of_other_genres_is_refused() -> None:
    with pytest.raises(BundleError, match="the adjustment is of 2 genres, the taxonomy has 3"):
        bundle(adjustment=PriorAdjustment.from_counts(1.0, (1, 1)))


def test_metrics_and_report_may_be_written_later(saved: Path) -> None:
    (saved / "metrics.json").write_text('{"scores": {"accuracy": 0.5}}')
    (saved / "report.html").write_text("<html></html>")
    loaded = load_bundle(saved)
    assert loaded.id == bundle().id
    assert loaded.metrics == {"scores": {"accuracy": 0.5}}


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
        ("taxonomy.json", lambda value: value[:2], "not the weights of this house_cnn with 2 genres"),
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
            "is of 1 bins, the front end gives 16",
        ),
        (
            "normalization.json",
            lambda value: value.pop("offset") and None,
            "normalization.json is corrupt: a normalization is",
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
            "adjustment is of 1 genres",
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


def test_a_model_that_was_not_trained_well_is_no_bundle() -> None:
    model = bundle().model
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    with pytest.raises(BundleError, match=r"the weights head\.bias are not all finite"):
        bundle(model=model)


def test_features_and_genres_that_do_not_fit_are_refused() -> None:
    made = bundle()
    made.check_features(made.features_id, "features")
    with pytest.raises(
        BundleError, match=rf"^/f: these features are 0123, the bundle's .* computes {made.features_id}"
    ):
        made.check_features("0123", "/f")
    made.check_taxonomy(["rock", "punk"], "features")
    with pytest.raises(BundleError, match=r"^/f: the genre\(s\) jazz, pop are not in .* \(rock, punk, folk\)\.$"):
        made.check_taxonomy(["rock", "pop", "jazz"], "/f")


def test_one_file_is_labelled_as_the_stages_label_it(tmp_path: Path) -> None:
    data = sound(7.0)
    (tmp_path / "song.wav").write_bytes(data)
    made = bundle()
    answer = made.label(tmp_path / "song.wav", top_k=2)
    assert made.label(str(tmp_path / "song.wav"), top_k=2) == made.label(data, top_k=2) == answer
    column = np.empty(1, dtype=object)
    column[:] = [data]
    none = np.array([None], dtype=object)
    heard = Extract(EXPERIMENT.front_end, EXPERIMENT.listening)(
        {"track_id": column, "recording": column, "error_kind": none, "error_message": none}
    )
    row = made.predictor(top_k=2)(heard)
    assert answer.genre_top == row["genre_top"][0]
    assert answer.confidence == row["confidence"][0]
    assert [list(pair) for pair in answer.top_k] == json.loads(row["top_k"][0])
    assert len(answer.top_k) == 2
    assert (answer.duration_seconds, answer.seconds_listened, answer.decoder) == (7.0, 4.0, "soundfile")
    assert answer.damage is None


def test_a_predictor_and_label_do_not_disturb_each_other() -> None:
    made = bundle()
    predict = made.predictor()
    before = predict.logits(clips())
    made.label(sound(2.0))
    np.testing.assert_array_equal(predict.logits(clips()), before)
    assert made.id == bundle().id


@pytest.mark.parametrize(("audio", "kind"), [(b"", ErrorKind.EMPTY), (b"no music " * 99, ErrorKind.NOT_AUDIO)])
def test_a_file_that_cannot_be_heard_says_why(audio: bytes, kind: ErrorKind) -> None:
    with pytest.raises(AudioError) as raised:
        bundle().label(audio)
    assert raised.value.kind is kind


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"song\.mp3: No such file") as raised:
        bundle().label(tmp_path / "song.mp3")
    assert raised.value.kind is ErrorKind.FETCH_FAILED
