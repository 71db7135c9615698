"""Hear a few tracks on one worker, before a stream starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import ray

from cluster.session.profiles import Profile
from cluster.streams.listening import LISTEN_BATCH, Listen, ListenRequest
from cluster.streams.predicting import Label, Predictor, environment_of, predictor_of
from mgc.labeling.canary import CanaryAnswer
from mgc.labeling.rows import Lineage

if TYPE_CHECKING:
    from mgc.bundle import Bundle


def hear_canaries(
    request: ListenRequest,
    tracks: pa.Table,
    bundle: Bundle,
    lineage: Lineage,
    profile: Profile,
    graph: bytes | None = None,
) -> dict[str, CanaryAnswer]:
    """Fetch, decode and predict tracks as the stream would, in one task. Returns answers by track id.

    Args:
        request: how to listen.
        tracks: rows of the plan's schema, in memory.
        bundle: the model.
        lineage: what the rows say of their origin.
        profile: the machine.
        graph: graph of the bundle, as the stream uses it; None for PyTorch.
    """
    gpu = profile.gpus > 0
    task = ray.remote(_hear).options(
        num_cpus=profile.decode_cpus,
        num_gpus=profile.gpus / profile.predict_actors if gpu else 0,
        runtime_env=environment_of(graph, gpu),
    )
    rows: pa.Table = ray.get(task.remote(request, tracks, predictor_of(bundle, graph, gpu), lineage))
    return {
        row["track_id"]: CanaryAnswer(
            {each["genre"]: each["probability"] for each in row["top_k"] or ()},
            "" if row["error_kind"] is None else f"{row['error_kind']}: {row['error_message']}",
        )
        for row in rows.select(["track_id", "top_k", "error_kind", "error_message"]).to_pylist()
    }


def _hear(request: ListenRequest, tracks: pa.Table, predictor: Predictor, lineage: Lineage) -> pa.Table:
    """Hear tracks in the process of a worker. Returns rows of `schema.LABELS`."""
    listen, label = Listen(request), Label(predictor, lineage, request.software)
    batches = (tracks.slice(first, LISTEN_BATCH) for first in range(0, tracks.num_rows, LISTEN_BATCH))
    return pa.concat_tables([label(listen(_columns(batch))) for batch in batches])


def _columns(batch: pa.Table) -> dict[str, np.ndarray]:
    return {name: batch[name].to_numpy() for name in batch.column_names}
