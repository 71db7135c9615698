"""A bundle's ears under another head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mgc.audio.excerpts import ListeningPlan
from mgc.bundle import Bundle, load_bundle
from mgc.bundle_start import put_head
from mgc.features.normalization import Normalization
from mgc.labeling.config import LabelingConfig
from mgc.labeling.decide import track_probabilities
from mgc.labeling.tag_maps import read_tag_map
from mgc.models.probe import build_head
from mgc.taxonomy import Taxonomy
from tests.unit.small_bundle import ADJUSTMENT, EXPERIMENT, bundle, sound


@pytest.mark.parametrize("hidden", [0, 5])
def test_a_probe_answers_as_its_head_does_on_the_embedding(tmp_path: Path, hidden: int) -> None:
    base = bundle()
    before = base.id
    embedding_D = base.embed(sound(4.0))
    torch.manual_seed(1)
    head = build_head(len(embedding_D), hidden, 2)
    probe = put_head(base, head, ["blues", "ska"], "probe")
    assert base.id == before
    assert probe.taxonomy.names == ("blues", "ska")
    np.testing.assert_allclose(probe.embed(sound(4.0)), embedding_D, rtol=1e-5)
    probe.save(tmp_path)
    loaded = load_bundle(tmp_path)
    assert loaded.id == probe.id
    if not hidden:
        with torch.inference_mode():
            logits_G = head(torch.from_numpy(embedding_D)).numpy()
        wanted = dict(zip(("blues", "ska"), track_probabilities(logits_G[None]), strict=True))
        assert dict(loaded.label(sound(4.0)).top_k) == pytest.approx(wanted, abs=1e-4)
    # The head of a probe is replaced, not stacked.
    again = put_head(loaded, build_head(len(embedding_D), 0, 3), ["a", "b", "c"], "probe")
    assert (
        again.model.state_dict().keys()
        == put_head(base, build_head(len(embedding_D), 0, 3), "abc", "probe").model.state_dict().keys()
    )


def other_ears() -> Bundle:
    made = bundle()
    with torch.no_grad():
        next(iter(made.model.ears().values())).add_(1e-3)
    return made


@pytest.mark.parametrize(
    ("made", "same"),
    [
        (lambda: bundle(taxonomy=Taxonomy.flat(["a", "b", "c"])), True),
        (lambda: bundle(adjustment=ADJUSTMENT), True),
        (lambda: bundle().answering(*read_tag_map("genre,tag\nloud,punk\n", bundle().vocabulary, "map")), True),
        (lambda: put_head(bundle(), build_head(12, 0, 5), "abcde", "probe"), True),
        (lambda: put_head(bundle(), build_head(12, 3, 2), "ab", "probe"), True),
        (other_ears, False),
        (lambda: bundle(experiment=replace(EXPERIMENT, front_end=replace(EXPERIMENT.front_end, top_db=70.0))), False),
        (lambda: bundle(experiment=replace(EXPERIMENT, listening=ListeningPlan(window_seconds=2.0))), False),
        (lambda: bundle(experiment=replace(EXPERIMENT, labeling=LabelingConfig(min_seconds=3.0))), False),
        (lambda: bundle(experiment=replace(EXPERIMENT, model=replace(EXPERIMENT.model, dropout=0.1))), False),
        (lambda: bundle(normalization=Normalization((100.0,) * 16, (50.25,) * 16)), False),
    ],
    ids=[
        "genres", "adjustment", "words", "probe", "deep probe",
        "weights", "front end", "listening plan", "shortest recording", "network", "normalization",
    ],
)  # fmt: skip
def test_what_the_embeddings_depend_on(made: Callable[[], Bundle], same: bool) -> None:
    other = made()
    assert other.id != bundle().id
    assert (other.embedding_id == bundle().embedding_id) == same


def test_a_probe_has_the_ears_of_its_bundle_wherever_it_lies(tmp_path: Path) -> None:
    base = bundle()
    probe = put_head(base, build_head(12, 0, 2), ["blues", "ska"], "probe")
    probe.save(tmp_path)
    loaded = load_bundle(tmp_path)
    again = put_head(loaded, build_head(12, 0, 3), ["a", "b", "c"], "probe")
    assert loaded.embedding_id == again.embedding_id == base.embedding_id
    np.testing.assert_array_equal(loaded.embed(sound(4.0)), base.embed(sound(4.0)))
