"""From tags to genres and verdicts, and the CSV files that say how."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.bundle import Bundle, load_bundle
from mgc.errors import AudioError, BundleError, ConfigError, ErrorKind
from mgc.labeling.decide import track_probabilities
from mgc.labeling.predict import Predict
from mgc.labeling.tag_maps import read_tag_map, shipped_map, shipped_maps
from mgc.labeling.tags import Evidence, TagMap, Vocabulary
from mgc.models.architecture import build_model
from mgc.public_models.bundles import MSD_TAGS, audioset_vocabulary
from mgc.taxonomy import Taxonomy
from tests.unit import small_bundle
from tests.unit.small_bundle import clips, sound

TAGS = ("Music", "Rock", "Metal", "Speech", "Silence")
VOCABULARY = Vocabulary("test", TAGS, "sigmoid", ("Music", "Rock", "Metal"), ("Silence",))
CSV = "genre,parent,tag,weight\nrock,,Rock,0.5\nmetal,rock,metal,\n"
MSD = Vocabulary("msd", MSD_TAGS)


def logits(*probabilities: float) -> np.ndarray:
    wide = np.array([probabilities], np.float64)
    return np.log(wide / (1 - wide)).astype(np.float32)


def test_a_genre_is_the_weighted_sum_of_its_tags() -> None:
    taxonomy, tags = read_tag_map(CSV, VOCABULARY, "map.csv")
    assert [(genre.name, genre.parent) for genre in taxonomy.genres] == [("rock", None), ("metal", "rock")]
    outputs = logits(0.9, 0.6, 0.2, 0.01, 0.01)
    np.testing.assert_allclose(track_probabilities(tags.apply(outputs)), [0.3 / 0.5, 0.2 / 0.5], rtol=1e-5)
    assert tags.apply(outputs).dtype == np.float32
    assert np.isfinite(tags.apply(np.full((2, 5), -1000.0, np.float32))).all()


def test_outputs_of_which_one_is_right() -> None:
    vocabulary = Vocabulary("genres", ("a", "b", "c"), "softmax")
    _, tags = read_tag_map("genre,tag\nx,a\nx,b\ny,c\n", vocabulary, "map")
    outputs = np.log(np.array([[0.2, 0.3, 0.5]], np.float32))
    np.testing.assert_allclose(track_probabilities(tags.apply(outputs)), [0.5, 0.5], rtol=1e-5)


@pytest.mark.parametrize(
    ("probabilities", "kind"),
    [
        ((0.9, 0.5, 0.1, 0.95, 0.01), None),
        ((0.05, 0.04, 0.01, 0.95, 0.01), ErrorKind.NOT_MUSIC),
        ((0.05, 0.04, 0.01, 0.2, 0.9), ErrorKind.SILENT),
        ((0.05, 0.04, 0.01, 0.02, 0.01), None),
        ((0.12, 0.04, 0.01, 0.9, 0.01), None),
    ],
)
def test_what_is_no_music(probabilities: tuple[float, ...], kind: ErrorKind | None) -> None:
    _, tags = read_tag_map(CSV, VOCABULARY, "map.csv")
    verdict = tags.judge(logits(*probabilities))
    assert (None if verdict is None else verdict.kind) == kind


def test_a_tag_that_speaks_for_a_genre_is_music() -> None:
    _, tags = read_tag_map("genre,tag\nSpoken,speech\nrock,Rock\n", VOCABULARY, "map")
    assert tags.judge(logits(0.05, 0.04, 0.01, 0.95, 0.01)) is None


@given(st.lists(st.tuples(*(st.floats(-60, 60, width=32) for _ in TAGS)), min_size=1, max_size=4))
def test_probabilities_of_genres_are_finite_and_sum_to_one(rows: list[tuple[float, ...]]) -> None:
    _, tags = read_tag_map(CSV, VOCABULARY, "map.csv")
    found = track_probabilities(tags.apply(np.array(rows, np.float32)))
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1)


MARKS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no genres"),
        ("genre,tag\n", "no genres"),
        ("tag,weight\nRock,1\n", "its columns are tag, weight"),
        ("genre,tag,colour\nrock,Rock,red\n", "its columns are genre, tag, colour"),
        ("genre,tag\nrock,Rokc\n", "line 2: the model has no tag 'Rokc'; did you mean 'Rock'?"),
        ("# why\ngenre,tag\n\nrock,xylophone\n", "line 4: the model has no tag 'xylophone'"),
        ("genre,tag\nrock,\n", "line 2: a line needs a genre and a tag"),
        *(
            (f"genre,tag,weight\nrock,Rock,{each}\n", f"line 2: the weight '{each}'")
            for each in ("heavy", "-1", "nan", "0")
        ),
        ("genre,tag\nrock,Rock\nmetal,Metal\nrock,rock\n", "line 4: line 2 has the tag Rock for rock"),
        (
            "genre,parent,tag\n# a\nrock,metal,Rock\nmetal,rock,Metal\n",
            "line 3: the parents form a circle, rock -> metal",
        ),
        ("genre,parent,tag\nrock,rock,Rock\n", "line 2: the parents form a circle, rock -> rock"),
        ("genre,parent,tag\nmetal,,Metal\nrock,pop,Rock\n", "line 3: the parent pop of rock is no genre"),
        (
            "genre,parent,tag\nmetal,,Metal\nrock,METAL,Rock\n",
            "line 3: the parent METAL of rock is no genre; did you mean metal?",
        ),
        (
            "genre,parent,tag\nmetal,,Metal\nmetal,rock,Rock\nrock,,Rock\n",
            "line 3: metal is below rock, and in line 2 below nothing",
        ),
        ("genre,tag\nRock,Rock\nmetal,Metal\nrock,Metal\n", "line 4: rock is the Rock of line 2"),
        ("genre,tag\nJos\u00e9,Rock\nJose\u0301,Metal\n", "line 3"),
        *((f"genre{mark}tag\nrock{mark}Rock\n", f"line 1: {name} separate its values") for mark, name in MARKS.items()),
        ("# mine\n\ngenre;tag;weight\nrock;Rock;0,5\n", "line 3: semicolons separate its values"),
        ("genre,tag\nrock,Rock,1\n", "line 2: 3 values for 2 columns"),
        ("genre,tag\nro\x1b[2Jck,Rock\n", "line 2: 'ro�[2Jck' is no name of a genre"),
        (f"genre,tag\n{'o' * 101},Rock\n", "line 2"),
        (f"genre,parent,tag\nrock,{'o' * 101},Rock\n", "line 2"),
        (f"genre,tag,{'o' * 9999}\nrock,Rock,1\n", "its columns are"),
        (f"genre,tag,weight\nrock,Rock,{'o' * 9999}\n", "is not a positive number"),
        (f"genre,tag\nrock,{'o' * 200_000}\n", "line 2: this is no CSV"),
    ],
)
def test_a_map_with_a_fault_is_refused_in_one_line(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_tag_map(text, VOCABULARY, "map.csv")
    assert str(raised.value).startswith("map.csv")
    assert fault in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("vocabulary", [audioset_vocabulary(), MSD], ids=["audioset", "msd"])
def test_each_map_that_comes_with_mgc_can_be_read(vocabulary: Vocabulary) -> None:
    names = shipped_maps(vocabulary)
    assert set(names) == {vocabulary.name, "fma", "gtzan", "id3"}
    for name in names:
        taxonomy, tags = shipped_map(name, vocabulary)
        assert len(taxonomy) >= 9
        assert TagMap.from_json(json.loads(json.dumps(tags.to_json())), taxonomy) == tags


def test_the_words_of_audioset() -> None:
    vocabulary = audioset_vocabulary()
    assert len(vocabulary.tags) == 527
    assert (vocabulary.tags[0], vocabulary.tags[137], vocabulary.tags[-1]) == ("Speech", "Music", "Field recording")
    assert {"Music", "Guitar", "Singing", "Techno", "Scary music"} <= set(vocabulary.music)
    assert not {"Speech", "White noise", "Silence", "Sine wave", "Wind"} & set(vocabulary.music)
    assert len(shipped_map("gtzan", vocabulary)[0]) == 10
    assert len(shipped_map("fma", vocabulary)[0]) == 16


def test_an_unknown_map_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"taxonomy gtzam: .*fma, gtzan, id3, msd"):
        shipped_map("gtzam", MSD)


def tagged_bundle() -> Bundle:
    taxonomy, tags = read_tag_map(CSV, VOCABULARY, "map.csv")
    model = build_model(small_bundle.EXPERIMENT.model, (16, 32), len(TAGS)).eval()
    return small_bundle.bundle(model=model, taxonomy=taxonomy, tags=tags)


def test_a_bundle_keeps_its_tags(tmp_path: Path) -> None:
    bundle = tagged_bundle()
    bundle.save(tmp_path)
    loaded = load_bundle(tmp_path)
    assert loaded.id == bundle.id
    assert loaded.tags == bundle.tags
    assert loaded.label(sound(4.0)).top_k == bundle.label(sound(4.0)).top_k
    (tmp_path / "tags.json").write_text('{"vocabulary": 3, "evidence": []}')
    with pytest.raises(BundleError, match=r"tags\.json is corrupt"):
        load_bundle(tmp_path)


def test_other_words_make_another_bundle(tmp_path: Path) -> None:
    bundle = tagged_bundle()
    taxonomy, tags = read_tag_map("genre,tag\nlaut,Metal\nleise,Rock\n", bundle.vocabulary, "map")
    other = bundle.answering(taxonomy, tags)
    assert other.id != bundle.id
    assert {genre for genre, _ in other.label(sound(4.0)).top_k} == {"laut", "leise"}
    # A bundle whose outputs are genres can be mapped as well; without tags its files have none.
    other.save(tmp_path)
    plain = small_bundle.bundle()
    plain.save(tmp_path)
    assert load_bundle(tmp_path).tags is None
    taxonomy, tags = read_tag_map("genre,tag\nloud,punk\nloud,rock\nsoft,folk\n", plain.vocabulary, "map")
    mapped = dict(plain.answering(taxonomy, tags).label(sound(1.0)).top_k)
    before = dict(plain.label(sound(1.0)).top_k)
    assert mapped["loud"] == pytest.approx(before["rock"] + before["punk"], abs=1e-6)


def test_a_map_to_other_genres_is_refused() -> None:
    bundle = tagged_bundle()
    with pytest.raises(BundleError, match="other genres"):
        bundle.answering(Taxonomy.flat(["jazz"]), bundle.tags or TagMap(VOCABULARY, (), ()))


def test_a_track_without_music_is_an_error_and_its_neighbours_are_not() -> None:
    bundle = tagged_bundle()
    assert bundle.tags is not None
    silent = Vocabulary("test", TAGS, "sigmoid", ("Music",), ("Silence",))
    tags = TagMap(silent, ("rock",), (Evidence("rock", "Rock", 1.0),))
    deaf = bundle.answering(Taxonomy.flat(["rock"]), tags)
    weights = {name: tensor.clone() for name, tensor in deaf.model.state_dict().items()}
    bias = next(name for name in reversed(list(weights)) if weights[name].shape == (len(TAGS),))
    weights[bias] = weights[bias].new_tensor([-30.0, -30.0, -30.0, 30.0, -30.0])
    deaf.model.load_state_dict(weights)
    with pytest.raises(AudioError, match="the model hears Speech") as raised:
        deaf.label(sound(4.0))
    assert raised.value.kind is ErrorKind.NOT_MUSIC
    batch = {
        "clips": np.array([clips(2).tobytes(), None], dtype=object),
        "clip_count": np.array([2, 0], np.int32),
        "error_kind": np.array([None, "empty"], dtype=object),
        "error_message": np.array([None, "the file is empty"], dtype=object),
    }
    predict: Predict = deaf.predictor()
    made = predict(batch)
    assert made["error_kind"].tolist() == ["not_music", "empty"]
    assert made["genre_top"].tolist() == [None, None]
    assert batch["error_kind"].tolist() == [None, "empty"]
