"""A bundle's graph answers as its network does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.abc import MetaPathFinder
from pathlib import Path

import numpy as np
import pytest
import torch

from mgc.bundle import Bundle
from mgc.bundle_start import put_head
from mgc.errors import BundleError, ConfigError
from mgc.features.normalization import Normalization
from mgc.graphs.export import CLOSE, compare_graph, export_graph, write_graph
from mgc.graphs.facts import describe_graph
from mgc.labeling.predict import CLIPS_AT_ONCE_CPU
from mgc.models.architecture import build_model
from mgc.models.graph import Graph
from mgc.models.guess import GuessConfig
from mgc.models.probe import build_head
from tests.unit.small_bundle import ADJUSTMENT, EXPERIMENT, bundle, clips
from tests.unit.talking_bundle import NETWORK, TAGS, tagged


def probe() -> Bundle:
    """A probe that names the sounds of its base besides its two genres."""
    torch.manual_seed(1)
    base = tagged(NETWORK)
    width = base.model.embed(torch.zeros(1, 16, 32)).shape[1]
    return put_head(base, build_head(width, 3, 2), ("blues", "ska"), "probe")


def adjusted() -> Bundle:
    return bundle(adjustment=ADJUSTMENT)


@pytest.mark.parametrize(
    ("make", "outputs"), [(bundle, 3), (adjusted, 3), (lambda: tagged(NETWORK), len(TAGS)), (probe, 2 + len(TAGS))]
)
def test_it_gives_the_outputs_of_the_network_and_its_embeddings(make: Callable[[], Bundle], outputs: int) -> None:
    made, clips_NFT = make(), clips(CLIPS_AT_ONCE_CPU + 3)
    by_torch, by_graph = made.predictor(), made.predictor(graph=Graph(export_graph(made)))
    for (rows, wanted_ND, wanted_NO), (same, found_ND, found_NO) in zip(
        by_torch.parts(clips_NFT), by_graph.parts(clips_NFT), strict=True
    ):
        assert rows == same
        assert found_NO.shape == (len(clips_NFT[rows]), outputs)
        np.testing.assert_allclose(found_NO, wanted_NO, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found_ND, wanted_ND, rtol=1e-4, atol=1e-5)
    assert found_NO.dtype == found_ND.dtype == np.float32


def test_nothing_is_reported_to_the_makers_of_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime looks at the variable once, as it is imported."""
    found: list[str | None] = []

    class Import(MetaPathFinder):
        def find_spec(self, fullname: str, path: object, target: object = None) -> None:
            if fullname == "onnxruntime":
                found.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
                raise ImportError

    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Import(), *sys.meta_path])
    with pytest.raises(ImportError):
        Graph(b"")
    assert found == ["1"]


@pytest.mark.drill
def test_onnx_runtime_leaves_no_id_of_the_machine(tmp_path: Path) -> None:
    """A process of its own, with a home of its own, computes a graph."""
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(export_graph(bundle()))
    code = "import sys, pathlib, mgc.models.graph as g; g.Graph(pathlib.Path(sys.argv[1]).read_bytes())"
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    subprocess.run([sys.executable, "-c", code, str(graph)], env={**kept, "HOME": str(home)}, timeout=300, check=True)
    assert not list(home.rglob("*onnxruntime*"))


def test_outputs_do_not_depend_on_the_company() -> None:
    """Bit for bit, as those of PyTorch."""
    made, clips_NFT = bundle(), clips(37)
    predict = made.predictor(graph=Graph(export_graph(made)))
    together_NG = predict.logits(clips_NFT)
    for size in (1, 2, 3, 5, 16, 36):
        parts = [predict.logits(clips_NFT[start : start + size]) for start in range(0, 37, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together_NG)
    np.testing.assert_array_equal(predict.logits(clips_NFT[::-1])[::-1], together_NG)


def test_the_same_bundle_gives_the_same_bytes() -> None:
    assert export_graph(bundle()) == export_graph(bundle()) != export_graph(adjusted())


def test_a_network_that_pools_over_time_gives_a_graph_for_any_number_of_frames() -> None:
    graph = Graph(export_graph(bundle()))
    for frames in (9, 32, 70):
        embedding_ND, outputs_NO = graph(np.zeros((2, 16, frames), np.uint8))
        assert (embedding_ND.shape, outputs_NO.shape) == ((2, 12), (2, 3))


def test_a_graph_of_another_bundle_is_found_out() -> None:
    made = bundle()
    assert compare_graph(made, Graph(export_graph(made))) < CLOSE < compare_graph(made, Graph(export_graph(adjusted())))
    assert compare_graph(made, Graph(export_graph(tagged(NETWORK)))) == np.inf
    bins = EXPERIMENT.front_end.n_mels + 1
    front_end = replace(EXPERIMENT.front_end, n_mels=bins)
    taller = bundle(
        experiment=replace(EXPERIMENT, front_end=front_end),
        normalization=Normalization((100.0,) * bins, (50.0,) * bins),
    )
    with pytest.raises(ConfigError, match="features"):
        compare_graph(made, Graph(export_graph(taller)))


def test_what_is_no_graph_is_refused() -> None:
    for data in (b"", b"no graph", export_graph(bundle())[:-1000]):
        with pytest.raises(ConfigError, match="ONNX Runtime"):
            Graph(data)


def test_a_guess_has_no_graph() -> None:
    experiment = replace(EXPERIMENT, model=GuessConfig())
    guess = bundle(experiment=experiment, model=build_model(GuessConfig(), (16, 32), 3).eval())
    with pytest.raises(BundleError, match=guess.id):
        export_graph(guess)


def test_a_network_that_onnx_cannot_hold_is_named() -> None:
    class Spectrum(torch.nn.Module):
        def forward(self, clips_NT: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (torch.fft.rfft(clips_NT).abs(),)

    with pytest.raises(ConfigError, match="fft_rfft"):
        write_graph(Spectrum().eval(), torch.zeros(2, 8), ["magnitudes"], any_frames=False)


def test_its_facts_are_enough_for_a_stranger() -> None:
    made = tagged(NETWORK)
    facts = describe_graph(made, {"LICENSE": "free"})
    assert (facts["bundle_id"], facts["features_id"], facts["LICENSE"]) == (made.id, made.features_id, "free")
    assert json.loads(facts["classes"]) == list(TAGS)
    assert facts["link"] == "sigmoid"
    assert json.loads(facts["tags"])["evidence"] == [["rock", "Rock", 1.0], ["metal", "Metal", 1.0]]
    assert json.loads(facts["front_end"])["n_mels"] == 16
    assert json.loads(facts["features"]) == {"shape": [16, 32], "dtype": "uint8"}
    assert json.loads(facts["notices"]) == ["synthetic, not music"]
    plain = describe_graph(bundle(), {})
    assert plain["link"] == "softmax"
    assert "tags" not in plain
    assert "sounds" not in plain
    assert len(json.loads(describe_graph(probe(), {})["sounds"])["tags"]) == len(TAGS)
