from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

import mgc
from mgc.audio.excerpts import ListeningPlan
from mgc.bundle import load_bundle
from mgc.bundle_facts import describe_model
from mgc.bundle_files import FILES, TRAINED_ON
from mgc.bundle_start import load_start
from mgc.errors import AudioError, BundleError, ErrorKind
from mgc.evaluation.leakage import TrainedGroups
from mgc.features.front_end import build_front_end
from mgc.features.normalization import Normalization
from mgc.hearing.extract import Extract
from mgc.hearing.one_file import hear
from mgc.labeling.adjust import PriorAdjustment
from mgc.labeling.config import LabelingConfig
from mgc.metrics import TrainingFacts
from mgc.models.architecture import build_model
from mgc.taxonomy import Genre, Taxonomy
from mgc.training.config import TrainingConfig
from tests.unit.small_bundle import ADJUSTMENT, EXPERIMENT, TAXONOMY, TRAINING, bundle, clips, sound


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    bundle().save(tmp_path / "b")
    return tmp_path / "b"


def test_what_is_loaded_is_what_was_saved(saved: Path) -> None:
    first, second = bundle(), load_bundle(saved)
    assert second.id == first.id
    assert second.features_id == first.features_id
    assert second.experiment == EXPERIMENT
    assert second.taxonomy == TAXONOMY
    assert second.normalization == first.normalization
    assert second.training == TRAINING
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
    noted = bundle(trained_on=TrainedGroups(np.array([-3, 5, 2**62])))
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
    """A change here makes mgc label every row of every labels table again."""
    model = build_model(EXPERIMENT.model, (16, 32), 3)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) % 7)
    assert bundle(model=model).id == "3f23e7cd6021"


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
        {"experiment": replace(EXPERIMENT, labeling=LabelingConfig(min_seconds=3.0))},
    ],
)
def test_the_id_changes_with_what_determines_the_answers(change: dict[str, Any]) -> None:
    assert bundle(**change).id != bundle().id


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": replace(EXPERIMENT, training=TrainingConfig(epochs=99, seed=3))},
        {"experiment": replace(EXPERIMENT, recipe="renamed", deviations=("none",))},
        {"training": TrainingFacts()},
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


def test_an_adjustment_of_other_genres_is_refused() -> None:
    with pytest.raises(BundleError, match="the adjustment has 2 genres, the network has 3"):
        bundle(adjustment=PriorAdjustment.from_counts(1.0, (1, 1)))


def test_metrics_and_report_may_be_written_later(saved: Path) -> None:
    (saved / "metrics.json").write_text('{"scores": {"accuracy": 0.5}}')
    (saved / "report.html").write_text("<html></html>")
    loaded = load_bundle(saved)
    assert loaded.id == bundle().id
    assert loaded.metrics_to_json() == {"scores": {"accuracy": 0.5}}


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
    with pytest.raises(BundleError, match=r"^/f: the genre\(s\) jazz, pop are not in .* \(rock, punk, folk\); "):
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
    heard = Extract(EXPERIMENT.hearing)(
        {"track_id": column, "recording": column, "error_kind": none, "error_message": none}
    )
    row = made.predictor(top_k=2)(heard)
    assert answer.genre_top == row["genre_top"][0]
    assert answer.confidence == row["confidence"][0]
    assert answer.top_k == row["top_k"][0]
    assert len(answer.top_k) == 2
    assert (answer.duration_seconds, answer.seconds_listened, answer.decoder) == (7.0, 4.0, "soundfile")
    assert answer.damage is None


def test_each_of_many_files_has_a_label_or_an_error(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(sound(3.0))
    files = [tmp_path / "song.wav", str(tmp_path / "gone.mp3"), b"no music " * 99, sound(4.0)]
    made = bundle()
    found = list(made.label_many(iter(files), top_k=2))
    assert [file for file, _ in found] == files
    first, gone, garbage, last = (answer for _, answer in found)
    assert (first, last) == (made.label(files[0], top_k=2), made.label(files[3], top_k=2))
    assert isinstance(gone, AudioError)
    assert isinstance(garbage, AudioError)
    assert (gone.kind, garbage.kind) == (ErrorKind.FETCH_FAILED, ErrorKind.NOT_AUDIO)


def test_samples_are_labelled_as_their_file_is() -> None:
    """The file holds 16 bits; its samples are the same numbers as floats."""
    made, data = bundle(), sound(7.0)
    samples_T, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    of_file, of_samples = made.label(data), made.label(samples_T, sample_rate_hz=rate_hz)
    assert of_samples == replace(of_file, decoder="samples")
    for same in (samples_T[None], np.stack([samples_T, samples_T]), samples_T.astype(np.float64)):
        assert made.label(same, sample_rate_hz=rate_hz) == of_samples
    # Channels that cancel are heard as in a file, and the caller's samples stay as they are.
    before_T = samples_T.copy()
    assert made.label(np.stack([samples_T, -samples_T]), sample_rate_hz=rate_hz).genre_top == of_file.genre_top
    np.testing.assert_array_equal(samples_T, before_T)
    with pytest.raises(AudioError) as raised:
        made.label(np.zeros(90_000), sample_rate_hz=rate_hz)
    assert raised.value.kind is ErrorKind.SILENT
    with pytest.raises(AudioError) as raised:
        made.label(samples_T[:100], sample_rate_hz=rate_hz)
    assert raised.value.kind is ErrorKind.TOO_SHORT


def test_unusable_samples_are_said_and_not_changed_in_the_callers_array() -> None:
    samples_T, rate_hz = soundfile.read(io.BytesIO(sound(7.0)), dtype="float32")
    samples_T[20_000] = np.nan
    assert bundle().label(samples_T, sample_rate_hz=rate_hz).damage == "1 unusable sample(s)"
    assert np.isnan(samples_T[20_000])


@pytest.mark.parametrize(
    ("samples", "rate_hz", "named"),
    [
        (np.zeros(9000), None, "sample_rate_hz"),
        (np.zeros(9000), 0, "sample_rate_hz"),
        (np.zeros(9000, np.int16), 8000, "int16"),
        (np.zeros((9000, 2)), 8000, "channels"),
        (np.zeros((1, 2, 3)), 8000, "channels"),
        (b"RIFF", 8000, "arrays"),
    ],
)
def test_samples_that_are_not_as_described_are_refused(samples: Any, rate_hz: int | None, named: str) -> None:
    for use in (bundle().label, bundle().embed):
        with pytest.raises(ValueError, match=named):
            use(samples, sample_rate_hz=rate_hz)


def test_an_embedding_is_the_mean_of_those_of_the_clips() -> None:
    made, data = load_bundle(), sound(7.0)
    heard = hear(data, None, made.experiment.listening, build_front_end(made.experiment.front_end), 0.5)
    clips_NFT = np.concatenate([clips.features for clips in heard.windows])
    parts = [embedding_ND for _, embedding_ND, _ in made.predictor().parts(clips_NFT)]
    embedding_D = made.embed(data)
    assert (embedding_D.dtype, embedding_D.ndim) == (np.float32, 1)
    np.testing.assert_allclose(embedding_D, np.concatenate(parts).mean(0), rtol=1e-5)
    samples_T, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_allclose(made.embed(samples_T, rate_hz), embedding_D, rtol=1e-6)
    assert not np.allclose(made.embed(sound(4.0)), embedding_D)


def test_a_predictor_and_label_do_not_disturb_each_other() -> None:
    made = bundle()
    predict = made.predictor()
    before = predict.logits(clips())
    made.label(sound(2.0))
    np.testing.assert_array_equal(predict.logits(clips()), before)
    assert made.id == bundle().id


def test_a_recording_shorter_than_the_bundle_labels_is_too_short(tmp_path: Path) -> None:
    long = bundle(experiment=replace(EXPERIMENT, labeling=LabelingConfig(min_seconds=3.0)))
    assert long.hearing.min_seconds == 3.0
    long.save(tmp_path / "b")
    for each in (long, load_bundle(tmp_path / "b")):
        assert each.label(sound(3.0)).duration_seconds == 3.0
        with pytest.raises(AudioError, match=r"2\.90 s of audio; at least 3 s are needed") as raised:
            each.label(sound(2.9))
        assert raised.value.kind is ErrorKind.TOO_SHORT
    assert describe_model(long)["shortest recording"] == "3 s"


def test_features_are_computed_for_shorter_recordings_too() -> None:
    assert replace(EXPERIMENT, labeling=LabelingConfig(min_seconds=3.0)).hearing == EXPERIMENT.hearing


def test_a_bundle_from_before_the_field_labels_from_half_a_second_on(saved: Path) -> None:
    fields = json.loads((saved / "experiment.json").read_text())
    assert fields.pop("labeling") == {"min_seconds": 0.5}
    (saved / "experiment.json").write_text(json.dumps(fields))
    old = load_bundle(saved)
    assert (old.id, old.hearing.min_seconds) == (bundle().id, 0.5)
    assert old.label(sound(0.5)).duration_seconds == 0.5


@pytest.mark.parametrize(("audio", "kind"), [(b"", ErrorKind.EMPTY), (b"no music " * 99, ErrorKind.NOT_AUDIO)])
def test_a_file_that_cannot_be_heard_says_why(audio: bytes, kind: ErrorKind) -> None:
    with pytest.raises(AudioError) as raised:
        bundle().label(audio)
    assert raised.value.kind is kind


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"song\.mp3: No such file") as raised:
        bundle().label(tmp_path / "song.mp3")
    assert raised.value.kind is ErrorKind.FETCH_FAILED


def test_a_training_can_start_from_a_bundle_of_an_earlier_front_end(saved: Path) -> None:
    """Its features are no more, its weights are."""
    bundle(trained_on=TrainedGroups(np.array([1, 2]))).save(saved)
    facts = json.loads((saved / "experiment.json").read_text())
    (saved / "experiment.json").write_text(json.dumps({**facts, "features_id": "0" * 12}))
    with pytest.raises(BundleError, match="was trained on features 000000000000"):
        load_bundle(saved)
    start = load_start(saved)
    assert start.name == bundle().id
    assert start.genres == bundle().taxonomy.names
    assert start.trained_on is not None
    assert start.trained_on.hashes.tolist() == [1, 2]
    assert start.notices == ("synthetic, not music",)
    expected = bundle().model.state_dict()
    assert start.weights.keys() == expected.keys()
    assert all(torch.equal(start.weights[name], expected[name]) for name in expected)
    with pytest.raises(BundleError, match="this is a single network"):
        load_start(saved, 1)


def test_a_normalisation_cannot_claim_any_number_of_bins(saved: Path) -> None:
    """Tables as wide as it claims are computed before the weights are looked at."""
    bundle().save(saved)
    for bins in (4_097, 100_000):
        scaling = {"offset": [0.0] * bins, "scale": [1.0] * bins, "unit_length": False}
        (saved / "normalization.json").write_text(json.dumps(scaling))
        with pytest.raises(BundleError, match=rf"normalization\.json has {bins:,} bins"):
            load_start(saved)


def test_a_training_starts_from_one_network_of_an_ensemble() -> None:
    with pytest.raises(BundleError, match=r"say which of its \d+ networks"):
        load_start()
    with pytest.raises(BundleError, match=r"say which of its \d+ networks"):
        load_start("default", 100)
    shipped, start = load_bundle(), load_start("default", 1)
    assert start.name == f"{shipped.id} 1"
    state = shipped.model.state_dict()
    assert torch.equal(start.weights["stages.0.0.weight"], state["members.0.stages.0.0.weight"])


def test_the_shipped_bundle_keeps_its_id() -> None:
    """With another id, mgc labels again every row that it labelled."""
    shipped = load_bundle()
    stated = json.loads((Path(mgc.__file__).parent / "default_bundle" / "experiment.json").read_text())
    assert shipped.experiment.labeling.min_seconds == 3.0
    assert shipped.id == stated["bundle_id"] == "9f53414b62ee"
