"""The graph with which CPUs label: written once, kept in the user's cache, and not trusted without a look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.session.profiles import laptop
from mgc.errors import BundleError
from mgc.graphs.export import CLOSE, compare_graph, export_graph
from mgc.labeling.canary import ROUNDING
from mgc.models.architecture import build_model
from mgc.models.graph import Graph
from mgc.models.guess import GuessConfig
from mgc.software import Software
from pipelines.models import graphs
from pipelines.models.graphs import graph_for
from tests.unit.small_bundle import ADJUSTMENT, EXPERIMENT, bundle


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mgc" / "graphs"


def test_it_is_written_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bundle()
    data = graph_for(made, laptop())
    assert data is not None
    assert compare_graph(made, Graph(data)) <= CLOSE
    [file] = cache.iterdir()
    assert file.name.startswith(f"{made.id}-")
    assert file.read_bytes() == data
    monkeypatch.setattr(graphs, "export_graph", None)
    assert graph_for(made, laptop()) == data
    # Another run of the same bundle, which is another object.
    assert graph_for(bundle(), laptop()) == data


@pytest.mark.parametrize("damage", [b"", b"no graph", export_graph(bundle(adjustment=ADJUSTMENT))])
def test_what_else_lies_in_its_place_is_written_anew(cache: Path, damage: bytes) -> None:
    data = graph_for(bundle(), laptop())
    [file] = cache.iterdir()
    file.write_bytes(damage)
    assert graph_for(bundle(), laptop()) == data == file.read_bytes()


def test_without_a_cache_it_is_written_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nohome")
    assert graph_for(bundle(), laptop()) == export_graph(bundle())


def test_pytorch_computes_on_gpus_and_where_there_is_no_runtime_or_network(monkeypatch: pytest.MonkeyPatch) -> None:
    assert graph_for(bundle(), replace(laptop(), gpus=1)) is None
    experiment = replace(EXPERIMENT, model=GuessConfig())
    assert graph_for(bundle(experiment=experiment, model=build_model(GuessConfig(), (16, 32), 3)), laptop()) is None
    here = Software.here()
    lacking = replace(here, versions=tuple(pair for pair in here.versions if pair[0] != "onnxruntime"))
    monkeypatch.setattr(Software, "here", lambda: lacking)
    assert graph_for(bundle(), laptop()) is None


def test_pytorch_computes_what_cannot_be_exported_and_the_job_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> bytes:
        raise BundleError("bundle 0123: there is no such operator.")

    monkeypatch.setattr(graphs, "export_graph", fail)
    assert graph_for(bundle(), laptop()) is None
    assert "PyTorch" in capsys.readouterr().err


def test_the_libraries_differ_by_far_less_than_a_canary_may() -> None:
    assert CLOSE <= ROUNDING / 100
