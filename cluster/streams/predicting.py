"""The stream of `label` and `embed`: tracks of a plan, listened to, predicted, and staged as rows of their tables.

The actors that predict import this file, and those that have a graph need no PyTorch. So this file imports none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy
from ray.runtime_env import RuntimeEnv

from cluster.session.counts import ProgressHandle
from cluster.session.meter import Meter
from cluster.session.profiles import KEEPS_MEMORY, Profile
from cluster.session.software import begin_work
from cluster.streams.listening import ListenRequest, listen_to_plan, write_stream
from cluster.streams.sinks import AnswersSink, Staging
from mgc import schema
from mgc.labeling.predict import Meaning, Predict
from mgc.labeling.rows import EMBEDDED, Lineage, labels_rows, with_embeddings
from mgc.models.graph import Graph
from mgc.software import Software

if TYPE_CHECKING:
    from mgc.bundle import Bundle

STAGED_FILES: Final = 64
"""Approximate number of files in which a run stages its rows."""

STAGED_ROWS: Final = (64, 4096)
"""Fewest and most rows of a staged file. With small files a killed run repeats little; with large ones ten million
tracks need only 2,500 files."""

_TRACKS_PER_PREDICTOR: Final = 256
"""Tracks for each predicting actor. An actor takes seconds of CPU to start, so fewer are not worth another one."""

_LABEL_BATCH: Final = 32


class Predictor(Protocol):
    """How an actor comes to the network of a bundle."""

    def load(self, embed: bool) -> Predict:
        """Return the stage.

        Args:
            embed: whether it also gives the tracks' embeddings.
        """


@dataclass(frozen=True)
class ByGraph:
    """The bundle's graph, for CPUs.

    Attributes:
        graph: the graph's bytes, in the object store.
        meaning: of the bundle.
    """

    graph: ray.ObjectRef[bytes]
    meaning: Meaning

    def load(self, embed: bool) -> Predict:
        """Return the stage, in a process that imports no PyTorch: that takes seconds, and hundreds of megabytes."""
        return Predict(Graph(ray.get(self.graph)), self.meaning, embed=embed)


@dataclass(frozen=True)
class ByTorch:
    """The bundle itself, whose network PyTorch computes.

    Attributes:
        bundle: the bundle, in the object store.
        gpu: whether to compute on a GPU.
    """

    bundle: ray.ObjectRef[Bundle]
    gpu: bool

    def load(self, embed: bool) -> Predict:
        """Return the stage."""
        import torch

        if not self.gpu:
            torch.set_num_threads(1)
        loaded: Bundle = ray.get(self.bundle)
        return loaded.predictor(torch.device("cuda" if self.gpu else "cpu"), embed=embed)


def predictor_of(bundle: Bundle, graph: bytes | None, gpu: bool) -> Predictor:
    """Put a bundle's network into the object store, for actors.

    Args:
        bundle: the model.
        graph: its graph, with which CPUs predict; None for PyTorch.
        gpu: whether to compute on a GPU.
    """
    return ByTorch(ray.put(bundle), gpu) if graph is None else ByGraph(ray.put(graph), bundle.meaning)


def environment_of(graph: bytes | None, gpu: bool) -> RuntimeEnv:
    """Return the environment of actors that predict.

    Where it is empty, an actor moves into a process that Ray has started already. ONNX Runtime keeps memory by itself.
    """
    return RuntimeEnv(env_vars=KEEPS_MEMORY) if graph is None and not gpu else RuntimeEnv()


class Label:
    """Stage: predict genres and make rows of the labels table.

    Args:
        predictor: the network.
        lineage: what the rows say of their origin.
        software: software of the driver.
        progress: counters of the job; None counts nothing.
        embed: whether to add the tracks' embeddings to the rows.

    Raises:
        ResourceError: this process runs other software than the driver.
    """

    def __init__(
        self,
        predictor: Predictor,
        lineage: Lineage,
        software: Software,
        progress: ProgressHandle | None = None,
        embed: bool = False,
    ) -> None:
        begin_work(software)
        self._predict = predictor.load(embed)
        self._schema = pa.schema([*schema.LABELS, *EMBEDDED]) if embed else schema.LABELS
        self._lineage = lineage
        self._meter = None if progress is None else Meter(progress)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return one row per track."""
        if not batch.num_rows:
            return self._schema.empty_table()
        started = time.monotonic()
        columns = {name: _objects(batch[name]) for name in batch.column_names}
        answers = self._predict(columns)
        rows = labels_rows(answers, self._lineage, datetime.now(UTC))
        if self._schema is not schema.LABELS:
            rows = with_embeddings(rows, answers)
        if self._meter is not None:
            self._meter.count_labelled(rows, time.monotonic() - started)
        return rows


def stage_answers(
    request: ListenRequest,
    bundle: Bundle,
    lineage: Lineage,
    staging: Staging,
    profile: Profile,
    progress: ProgressHandle | None,
    graph: bytes | None = None,
) -> None:
    """Stage the rows of a plan's tracks.

    Args:
        request: what to listen to.
        bundle: the model.
        lineage: what the rows say of their origin.
        staging: folders of the staged files.
        profile: how many tracks at once.
        progress: counters of the job; None counts nothing.
        graph: graph of the bundle, with which CPUs predict; None for PyTorch.
    """
    gpu = profile.gpus > 0
    # The pool has a fixed size. One that may grow also shrinks, and imports PyTorch each time it grows again.
    predictors = min(profile.predict_actors, max(1, request.rows // _TRACKS_PER_PREDICTOR))
    answers = listen_to_plan(request, profile, progress).map_batches(
        Label,
        fn_constructor_kwargs={
            "predictor": predictor_of(bundle, graph, gpu),
            "lineage": lineage,
            "software": request.software,
            "progress": progress,
            "embed": staging.embeddings is not None,
        },
        batch_size=_LABEL_BATCH,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=predictors),
        num_cpus=profile.predict_cpus,
        num_gpus=profile.gpus / profile.predict_actors if gpu else None,
        runtime_env=environment_of(graph, gpu),
    )
    sink = AnswersSink(staging, int(np.clip(request.rows // STAGED_FILES, *STAGED_ROWS)))
    write_stream(answers, sink, profile)


def _objects(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column as mgc's stages expect it: numbers as numbers, the rest as objects, with None where missing."""
    if pa.types.is_integer(column.type) and not column.null_count:
        numbers: np.ndarray = column.to_numpy()
        return numbers
    if pa.types.is_floating(column.type):
        return np.array([np.nan if value is None else value for value in column.to_pylist()], dtype=np.float64)
    objects = np.empty(len(column), dtype=object)
    objects[:] = column.to_pylist()
    return objects
