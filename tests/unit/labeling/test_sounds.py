"""A probe keeps what the ears that it was built on say of a recording that is no music."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mgc.bundle import Bundle, load_bundle
from mgc.bundle_facts import describe_model
from mgc.bundle_files import FILES, SOUNDS
from mgc.bundle_start import count_as_music, find_taught_sounds, load_start, put_head
from mgc.errors import AudioError, BundleError, ErrorKind
from mgc.hearing.one_file import hear
from mgc.labeling.tag_maps import read_tag_map
from mgc.labeling.tags import Vocabulary
from mgc.labeling.torch_network import TorchNetwork
from mgc.models.architecture import build_model
from mgc.models.ensemble import EnsembleConfig
from mgc.models.guess import GuessConfig
from mgc.models.house import HouseCnnConfig
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.probe import build_head
from tests.unit.small_bundle import EXPERIMENT, bundle
from tests.unit.talking_bundle import NETWORK, SONG, SPEECH, TAGS, VOCABULARY, embeddings, tagged, talking_bundle

GENRES = ("blues", "ska")
DEAF = Vocabulary("test", TAGS)


def probe_on(base: Bundle, hidden: int = 0, genres: tuple[str, ...] = GENRES) -> Bundle:
    torch.manual_seed(1)
    width = len(base.embed(SONG))
    return put_head(base, build_head(width, hidden, len(genres)), genres, "probe")


def refused(made: Bundle, audio: bytes) -> tuple[ErrorKind, str]:
    with pytest.raises(AudioError) as raised:
        made.label(audio)
    return raised.value.kind, str(raised.value)


@pytest.mark.parametrize("hidden", [0, 3])
def test_base_and_probe_agree_on_what_is_no_music(tmp_path: Path, hidden: int) -> None:
    base = talking_bundle()
    probe_on(base, hidden).save(tmp_path)
    probe = load_bundle(tmp_path)
    assert refused(base, SPEECH)[0] is ErrorKind.NOT_MUSIC
    assert refused(probe, SPEECH) == refused(base, SPEECH)
    assert base.label(SONG).genre_top == "rock"
    assert probe.label(SONG).genre_top in GENRES
    for audio in (SPEECH, SONG):
        np.testing.assert_array_equal(probe.embed(audio), base.embed(audio))


def test_the_stage_gives_the_same_errors_and_vectors_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    base = talking_bundle()
    probe = probe_on(base)
    heard = [hear(audio, None, EXPERIMENT.listening, base._front_end, 0.5) for audio in (SPEECH, SONG)]
    tracks = [np.concatenate([clips.features for clips in each.windows]) for each in heard]
    batch = {
        "clips": np.array([*(clips.tobytes() for clips in tracks), None], dtype=object),
        "clip_count": np.array([*map(len, tracks), 0], np.int32),
        "error_kind": np.array([None, None, "empty"], dtype=object),
        "error_message": np.array([None, None, "the file is empty"], dtype=object),
    }
    wanted = base.predictor(embed=True)(batch)
    predict, passes = probe.predictor(embed=True), 0
    network = predict._network
    assert isinstance(network, TorchNetwork)
    embed = network._model.embed

    def counted(features_BFT: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += len(features_BFT)
        return embed(features_BFT)

    monkeypatch.setattr(network._model, "embed", counted)
    made = predict(batch)
    assert made["error_kind"].tolist() == wanted["error_kind"].tolist() == ["not_music", None, "empty"]
    assert made["error_message"].tolist() == wanted["error_message"].tolist()
    assert [genre is None for genre in made["genre_top"]] == [True, False, True]
    for row in range(2):
        np.testing.assert_array_equal(made["embedding"][row], wanted["embedding"][row])
    size = predict._clips_at_once
    assert passes == -(-sum(map(len, tracks)) // size) * size
    # Logits of genres are what training and scoring read, and nothing else.
    assert predict.logits(tracks[0]).shape == (len(tracks[0]), len(GENRES))


def test_a_probe_on_a_probe_keeps_it_and_a_table_stays(tmp_path: Path) -> None:
    base = talking_bundle()
    probe_on(base).save(tmp_path)
    again = probe_on(load_bundle(tmp_path), genres=("a", "b", "c"))
    assert refused(again, SPEECH) == refused(base, SPEECH)
    assert again.sounds == VOCABULARY
    assert again.embedding_id == load_bundle(tmp_path).embedding_id == base.embedding_id
    # Another head trains on from the weights of either.
    assert load_start(tmp_path).weights.keys() == again.model.state_dict().keys()


@pytest.mark.parametrize(
    ("base", "kept"),
    [
        (talking_bundle, len(TAGS)),
        (lambda: tagged(EnsembleConfig(members=(HouseCnnConfig(channels=(4,)),) * 2)), len(TAGS)),
        (lambda: tagged(NETWORK, DEAF), 0),
        (bundle, 0),
    ],
    ids=["mobilenet", "ensemble", "knows music only", "genres"],
)
def test_what_is_kept_is_part_of_the_id(tmp_path: Path, base: Callable[[], Bundle], kept: int) -> None:
    probe = probe_on(base())
    heads = {name for name in probe.model.state_dict() if name.startswith("body.head.")}
    assert (probe.experiment.model.sounds, bool(heads), probe.sounds is not None) == (kept, kept > 0, kept > 0)
    assert probe.embedding_id == base().embedding_id
    probe.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, *([SOUNDS] if kept else [])}
    loaded = load_bundle(tmp_path)
    assert loaded.id == probe.id
    assert loaded.sounds == probe.sounds
    assert ("no music" in describe_model(loaded)) == (kept > 0)
    if kept:
        assert probe.sounds is not None
        assert replace(probe, sounds=replace(probe.sounds, music=("Music",))).id != probe.id
        probe_on(tagged(NETWORK, DEAF)).save(tmp_path)
        assert not (tmp_path / SOUNDS).exists()


def test_ids_of_probes_from_before_are_the_same(tmp_path: Path) -> None:
    """A change here makes mgc label again every row that such probes labelled."""
    probe = put_head(bundle(), build_head(12, 3, 2), GENRES, "probe")
    with torch.no_grad():
        for tensor in probe.model.state_dict().values():
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) % 7)
    assert (probe.id, probe.embedding_id) == ("e03ca961ae39", "08659adcad2e")
    probe.save(tmp_path)
    # A file from before has no such field.
    fields = json.loads((tmp_path / "experiment.json").read_text())
    assert fields["model"].pop("sounds") == 0
    (tmp_path / "experiment.json").write_text(json.dumps(fields))
    assert load_bundle(tmp_path).id == probe.id


def test_other_words_for_the_genres_leave_the_verdict(tmp_path: Path) -> None:
    probe = probe_on(talking_bundle())
    taxonomy, tags = read_tag_map("genre,tag\nslow,blues\nfast,ska\n", probe.vocabulary, "map")
    probe.answering(taxonomy, tags).save(tmp_path)
    loaded = load_bundle(tmp_path)
    assert loaded.id != probe.id
    assert refused(loaded, SPEECH) == refused(probe, SPEECH)
    assert {genre for genre, _ in loaded.label(SONG).top_k} == {"slow", "fast"}


def test_what_speaks_for_a_genre_of_the_base_is_music_to_the_probe_too() -> None:
    base = talking_bundle()
    spoken = base.answering(*read_tag_map("genre,tag\nSpoken,Speech\nrock,Rock\n", base.vocabulary, "map"))
    assert spoken.label(SPEECH).genre_top == "Spoken"
    assert probe_on(spoken).label(SPEECH).genre_top in GENRES
    assert probe_on(spoken).embedding_id == probe_on(base).embedding_id


def remove(place: Path) -> None:
    (place / SOUNDS).unlink()


def cut(place: Path) -> None:
    (place / SOUNDS).write_bytes((place / SOUNDS).read_bytes()[:50])


def other(place: Path) -> None:
    (place / SOUNDS).write_text('["Speech"]')


def fewer(place: Path) -> None:
    (place / SOUNDS).write_text(json.dumps(Vocabulary("test", TAGS[:3], music=("Music",)).to_json()))


def renamed(place: Path) -> None:
    (place / SOUNDS).write_text((place / SOUNDS).read_text().replace("Speech", "Talk"))


def added(place: Path) -> None:
    text = (place / SOUNDS).read_text()
    probe_on(bundle()).save(place)
    (place / SOUNDS).write_text(text)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (remove, "sounds.json is missing"),
        (cut, "sounds.json is not JSON"),
        (other, "sounds.json holds no JSON object"),
        (fewer, "sounds.json names 3 sounds, the network has 5"),
        (renamed, "changed by hand"),
        (added, "sounds.json names 5 sounds, the network has 0"),
    ],
)
def test_a_damaged_file_of_sounds_is_one_line(tmp_path: Path, damage: Callable[[Path], None], fault: str) -> None:
    probe_on(talking_bundle()).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(BundleError, match=fault) as raised:
        load_bundle(tmp_path)
    assert str(raised.value).startswith(f"bundle {tmp_path}")
    assert str(raised.value).isprintable()


def test_what_is_labelled_as_a_genre_counts_as_music() -> None:
    speech_D, song_D = embeddings()
    probe = probe_on(talking_bundle(), genres=("Audiobook", "Rock"))
    vectors_ND = np.stack([speech_D, speech_D, song_D, song_D, speech_D, song_D, song_D])
    genre_N = np.array([0, 0, 0, 1, 1, 1, 1])
    assert find_taught_sounds(probe, vectors_ND, genre_N) == {"Audiobook": ("Speech",)}
    # One of five tracks of rock is speech: that is a wrong label, and teaches nothing.
    assert find_taught_sounds(probe, vectors_ND[2:], np.array([0, 1, 1, 1, 1])) == {}
    taught = count_as_music(probe, {"Audiobook": ("Speech",)})
    assert taught.label(SPEECH).genre_top in ("Audiobook", "Rock")
    assert taught.id != probe.id
    assert refused(probe, SPEECH)[0] is ErrorKind.NOT_MUSIC
    assert find_taught_sounds(probe_on(bundle()), np.zeros((1, 12), np.float32), np.array([0])) == {}


def test_a_guess_has_no_embedding() -> None:
    network = GuessConfig()
    guess = bundle(experiment=replace(EXPERIMENT, model=network), model=build_model(network, (16, 32), 3).eval())
    assert guess.label(SONG).genre_top in guess.taxonomy.names
    for ask in (lambda: guess.embedding_id, lambda: guess.embed(SONG)):
        with pytest.raises(BundleError, match="a guess has no embedding"):
            ask()
    with pytest.raises(BundleError, match="a guess has no embedding"):
        put_head(guess, build_head(3, 0, 2), GENRES, "probe")


def test_a_mobilenet_that_was_trained_on_keeps_nothing() -> None:
    network = MobileNetConfig(width=0.1, hidden=8)
    trained = bundle(experiment=replace(EXPERIMENT, model=network), model=build_model(network, (16, 32), 3).eval())
    assert probe_on(trained).sounds is None
