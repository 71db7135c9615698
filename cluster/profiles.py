"""What each part of a job may take of a machine or a cluster.

On few cores Ray can wait for ever: a read, an actor pool and a data shard that each want one CPU hold each other up
when there are two (tried, with Ray 2.60). So a small machine gets more logical CPUs than it has cores, and every part
states a fraction that leaves room for the others.
"""

from __future__ import annotations

import os
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT

FEWEST_LOGICAL_CPUS: Final = 8
"""Below this, parts that wait for each other were seen to hang."""

Cpus = Annotated[float, Field(gt=0.0)]


@dataclass(frozen=True, config=STRICT)
class Profile:
    """Resources in Ray's logical CPUs and GPUs.

    Attributes:
        name: for messages.
        cores: CPU cores that can really work at once.
        logical_cpus: what Ray is told there are; at least `FEWEST_LOGICAL_CPUS`.
        gpus: GPUs for training and prediction; 0 computes on the CPU.
        decode_cpus: of one decode task; `cores` of them fit beside the rest.
        predict_cpus: of one prediction actor.
        predict_actors: largest size of the prediction pool; two at least, a pool of one was seen to hang.
        io_cpus: of one task that reads or writes tables.
        train_workers: data-parallel workers.
        train_cpus: of one training worker.
        dashboard: start Ray's dashboard with a local Ray.
        stall_seconds: a job in which nothing moves for so long is ended.
        fewest_workers: with which a training goes on where nodes are lost, or not there; None for all of them.
        accumulation: parts in which a worker computes its share of a batch, one after the other.
        precision: `recipe`, in bfloat16 where the recipe takes it and the device computes in it, or `float32`.
        compile: whether workers compile the network (torch.compile), which takes a C++ compiler on each node.
        prefetch_batches: that a worker fetches ahead.
        checkpoint_steps: after so many steps inside of an epoch a checkpoint is written, and augmentation drawn anew.
    """

    name: str
    cores: Annotated[int, Field(ge=1)]
    logical_cpus: Cpus
    gpus: Annotated[int, Field(ge=0)]
    decode_cpus: Cpus
    predict_cpus: Cpus
    predict_actors: Annotated[int, Field(ge=2)]
    io_cpus: Cpus
    train_workers: Annotated[int, Field(ge=1)]
    train_cpus: Cpus
    dashboard: bool = False
    stall_seconds: Annotated[float, Field(gt=0.0)] = 300.0
    fewest_workers: Annotated[int | None, Field(ge=1)] = None
    accumulation: Annotated[int, Field(ge=1)] = 1
    precision: Literal["recipe", "float32"] = "recipe"
    compile: bool = False
    prefetch_batches: Annotated[int, Field(ge=0)] = 1
    checkpoint_steps: Annotated[int, Field(ge=1)] = 1000


def fit(name: str, cores: int, logical_cpus: float, gpus: int = 0, train_workers: int = 1) -> Profile:
    """A profile for so many logical CPUs, however few.

    Three eighths of each core's share decode, the rest is left to reading, predicting and writing, which take little.
    """
    share = logical_cpus / cores
    return Profile(
        name=name,
        cores=cores,
        logical_cpus=logical_cpus,
        gpus=gpus,
        decode_cpus=share * 0.625,
        predict_cpus=min(share, logical_cpus / 8) * 0.5,
        predict_actors=max(2, cores),
        io_cpus=min(1.0, logical_cpus / 16),
        train_workers=train_workers,
        train_cpus=min(logical_cpus / 8, logical_cpus / 4 / train_workers),
        dashboard=False,
    )


def laptop(train_workers: int = 1) -> Profile:
    """This machine, with a Ray of its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return fit("laptop", cores, max(cores, FEWEST_LOGICAL_CPUS), train_workers=train_workers)
