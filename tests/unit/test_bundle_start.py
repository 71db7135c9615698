"""A bundle's ears under another head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mgc.bundle import load_bundle
from mgc.bundle_start import put_head
from mgc.labeling.decide import track_probabilities
from mgc.models.probe import build_head
from tests.unit.small_bundle import bundle, sound


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
