"""Divide a machine or a cluster among the parts of a job. The user can choose a division by name.

With few cores Ray can wait forever. On two CPUs, a read, an actor pool and a data shard that each request one CPU block
each other (tried with Ray 2.60). So a small machine gets more logical CPUs than it has cores, and every part requests a
fraction that leaves room for the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.errors import ConfigError, ResourceError
from mgc.units import format_count

FEWEST_LOGICAL_CPUS: Final = 8
"""With fewer, jobs hung because their parts waited for each other."""

GROWTH: Final = "MGC_NODES"
"""Environment variable that says which nodes an autoscaler may start. Ray's own do not tell a driver."""

KEEPS_MEMORY: Final = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",
}
"""Variables with which glibc keeps freed memory, for processes that compute a network on CPUs.

Each batch needs as much memory as the one before. By default glibc returns large blocks at once, and the kernel zeroes
each of their pages again for every batch.
"""

Cpus = Annotated[float, Field(gt=0.0)]


@dataclass(frozen=True, config=STRICT)
class Profile:
    """Resources of each part of a job, in Ray's logical CPUs and GPUs.

    Attributes:
        name: name of the profile or the place, for messages.
        cores: CPU cores that can really work at once.
        logical_cpus: number of CPUs to report to Ray; at least `FEWEST_LOGICAL_CPUS`.
        gpus: GPUs for training and prediction; 0 computes on the CPU.
        decode_cpus: CPUs of one decode task; `cores` such tasks fit alongside the rest.
        predict_cpus: CPUs of one prediction actor.
        predict_actors: most actors in the prediction pool; at least two, because smaller pools have hung.
        io_cpus: CPUs of one task that reads tables; tasks that write request none.
        train_workers: number of data-parallel workers.
        train_cpus: CPUs of one training worker.
        dashboard: whether a local Ray starts its dashboard.
        stall_seconds: time without progress after which a job ends.
        fewest_workers: fewest workers with which a training continues when nodes are lost; None requires all of them.
        accumulation: number of parts in which a worker computes its share of a batch, one after the other.
        precision: `recipe` computes in bfloat16 if the recipe and the device do; otherwise `float32`.
        compile: whether workers compile the network (torch.compile), which needs a C++ compiler on each node.
        prefetch_batches: number of batches that a worker fetches ahead.
        checkpoint_steps: steps between checkpoints inside an epoch; augmentation is drawn again after each.
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


@dataclass(frozen=True, config=STRICT)
class NodeResources:
    """One machine, as Ray sees it.

    Attributes:
        cpus: logical CPUs.
        gpus: number of GPUs.
    """

    cpus: Annotated[float, Field(ge=0.0)]
    gpus: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=STRICT)
class Resources:
    """Resources of a machine or a cluster.

    Attributes:
        place: name of the machine or cluster, for messages.
        cores: CPU cores that can really work at once.
        nodes: machines with a CPU, including those that an autoscaler may still start.
    """

    place: str
    cores: Annotated[int, Field(ge=1)]
    nodes: tuple[NodeResources, ...]

    @property
    def cpus(self) -> float:
        """Logical CPUs of all nodes."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> int:
        """GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    @property
    def decoder_cpus(self) -> float:
        """Logical CPUs of nodes without a GPU."""
        return sum(node.cpus for node in self.nodes if not node.gpus)

    def worker_cpus(self, gpu: bool) -> float:
        """Return the most CPUs that a training worker can get on one node.

        Args:
            gpu: whether each worker has a GPU, and so that GPU's share of its node.
        """
        if gpu:
            return min(node.cpus / node.gpus for node in self.nodes if node.gpus)
        return max(node.cpus for node in self.nodes)


@dataclass(frozen=True, config=STRICT)
class NamedProfile:
    """A named way to divide a machine or a cluster.

    Attributes:
        about: purpose of the profile.
        cpus: fewest logical CPUs.
        gpus: fewest GPUs; 0 uses none.
        decoder_cpus: fewest CPUs on nodes without a GPU. Above 0, only these nodes count for decoding: as long as there
            is room, Ray sends work without a GPU to nodes that have none.
    """

    about: str
    cpus: Cpus
    gpus: Annotated[int, Field(ge=0)] = 0
    decoder_cpus: Annotated[float, Field(ge=0.0)] = 0.0


PROFILES: Final[Mapping[str, NamedProfile]] = {
    "laptop": NamedProfile("one machine that computes on its CPU, whatever GPUs it has", cpus=1),
    "gpu-node": NamedProfile("one machine with GPUs: its cores decode, the GPUs train and predict", cpus=4, gpus=1),
    "decoders-and-gpus": NamedProfile(
        "machines without GPUs that decode, beside machines with GPUs that train and predict",
        cpus=4,
        gpus=1,
        decoder_cpus=2,
    ),
}
"""Values of `--profile`. Without it a job uses all there is."""


def choose(name: str | None, have: Resources, train_workers: int = 1) -> Profile:
    """Return a profile, reduced to the available resources.

    Args:
        name: one of `PROFILES`; None uses all there is.
        have: resources of the machine or the cluster.
        train_workers: number of data-parallel workers that the job wants.

    Raises:
        ConfigError: there is no such profile.
        ResourceError: there are fewer resources than the profile or the workers need.
    """
    wanted = None if name is None else find(name)
    if wanted is not None:
        _check(name or "", wanted, have)
    gpus = have.gpus if wanted is None or wanted.gpus else 0
    _check_workers(train_workers, gpus, have)
    apart = wanted is not None and wanted.decoder_cpus > 0
    logical = have.decoder_cpus if apart else have.cpus
    cores = max(1, int(logical)) if apart else have.cores
    profile = fit(name or have.place, cores, logical, gpus, train_workers)
    # Two machines with four CPUs each have eight, but no room for a worker that needs five.
    return replace(profile, train_cpus=min(profile.train_cpus, have.worker_cpus(gpus > 0) / 2))


def find(name: str) -> NamedProfile:
    """Return a profile by its name.

    Raises:
        ConfigError: there is no such profile.
    """
    if name not in PROFILES:
        raise ConfigError(f"there is no profile {name!r}; there are {', '.join(PROFILES)}.")
    return PROFILES[name]


def _check(name: str, wanted: NamedProfile, have: Resources) -> None:
    wants: Sequence[tuple[float, float, str, str]] = (
        (wanted.gpus, have.gpus, "GPU(s)", "a machine with a GPU"),
        (wanted.cpus, have.cpus, "CPUs", "more CPUs"),
        (wanted.decoder_cpus, have.decoder_cpus, "CPUs on machines without a GPU", "such machines"),
    )
    for most, there, what, way_out in wants:
        if most > there:
            raise ResourceError(
                f"profile {name} needs {most:g} {what}, but {have.place} has {there:g}; choose another "
                f"--profile, or add {way_out}."
            )


def _check_workers(train_workers: int, gpus: int, have: Resources) -> None:
    if train_workers < 1:
        raise ConfigError(f"{train_workers} training workers cannot train; ask for at least one (--workers 1).")
    if gpus and train_workers > gpus:
        raise ResourceError(
            f"{format_count(train_workers, 'training worker')}, each with a GPU, but {have.place} has {gpus}; ask for "
            f"fewer (--workers {gpus}), or choose --profile laptop, which computes on CPUs."
        )
    if train_workers > have.cpus:
        raise ResourceError(
            f"{format_count(train_workers, 'training worker')}, but {have.place} has {have.cpus:g} CPUs; ask for fewer."
        )


def fit(name: str, cores: int, logical_cpus: float, gpus: int = 0, train_workers: int = 1) -> Profile:
    """Return a profile for a number of logical CPUs, however few.

    Five eighths of each core's share decode and one eighth predicts. A reading task takes one of the other two. So some
    node has room for it wherever Ray places the actors, even if all nodes have one CPU.
    """
    share = logical_cpus / cores
    return Profile(
        name=name,
        cores=cores,
        logical_cpus=logical_cpus,
        gpus=gpus,
        decode_cpus=share * 0.625,
        predict_cpus=share * 0.125,
        # A share of a GPU above one would have to be a whole number, so there are at least as many actors as GPUs. On
        # many cores, predicting with the default bundle takes a third of the time of decoding.
        predict_actors=max(2, min(cores, 8), gpus or cores // 2),
        io_cpus=share * 0.125,
        train_workers=train_workers,
        train_cpus=min(logical_cpus / 8, logical_cpus / 4 / train_workers),
        dashboard=False,
    )


def growth(text: str) -> Mapping[NodeResources, int]:
    """Read which nodes an autoscaler may start, such as `20x8,4x8+1`: 20 of 8 CPUs, and 4 of 8 CPUs with a GPU.

    Returns:
        The largest number of nodes of each kind.

    Raises:
        ConfigError: it says something else.
    """
    kinds = [re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})(?:\+([0-9]{1,4}))?", kind.strip()) for kind in text.split(",")]
    found = {NodeResources(float(kind[2]), int(kind[3] or 0)): int(kind[1]) for kind in kinds if kind is not None}
    # A kind that stands twice is one that somebody mistyped.
    if len(found) < len(kinds) or not all(node.cpus for node in found) or not all(found.values()):
        raise ConfigError(
            f"{GROWTH} is {text!r}; write NODESxCPUS or NODESxCPUS+GPUS once for each kind of node, as in 20x8,4x8+1, "
            "each number below 10,000."
        )
    return found


def this_machine(gpus: int = 0) -> Resources:
    """Return the resources of this machine with a Ray of its own, to which it reports at least eight CPUs."""
    cores = machine_cores()
    return Resources("this machine", cores, (NodeResources(max(cores, FEWEST_LOGICAL_CPUS), gpus),))


def machine_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def laptop(train_workers: int = 1) -> Profile:
    """Return a profile for this machine that computes on its CPU."""
    return choose("laptop", this_machine(), train_workers)
