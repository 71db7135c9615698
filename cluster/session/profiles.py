"""What each part of a job may take of a machine or a cluster; by name, where a person chooses.

On few cores Ray can wait for ever: a read, an actor pool and a data shard that each want one CPU hold each other up
when there are two (tried, with Ray 2.60). So a small machine gets more logical CPUs than it has cores, and every part
states a fraction that leaves room for the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from mgc.configuration import STRICT
from mgc.errors import ConfigError

FEWEST_LOGICAL_CPUS: Final = 8
"""Below this, parts that wait for each other were seen to hang."""

KEEPS_MEMORY: Final = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",
}
"""Variables of glibc for a process in which a network computes on CPUs: it keeps what it frees, for it wants as much
again with the next batch.

By itself glibc gives large blocks back at once, and the kernel zeroes every page of theirs anew, for each batch.
"""

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
        predict_actors: most in the prediction pool; two at least, a pool that cannot hold two was seen to hang.
        io_cpus: of one task that reads tables; those that write ask for none.
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


@dataclass(frozen=True, config=STRICT)
class NodeResources:
    """One machine, as Ray sees it."""

    cpus: Annotated[float, Field(ge=0.0)]
    gpus: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=STRICT)
class Resources:
    """What there is to be shared out.

    Attributes:
        place: for messages.
        cores: CPU cores that can really work at once.
        nodes: machines with a CPU, those too that a growing cluster has yet to start.
    """

    place: str
    cores: Annotated[int, Field(ge=1)]
    nodes: tuple[NodeResources, ...]

    @property
    def cpus(self) -> float:
        """Logical CPUs."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> int:
        """All of them."""
        return sum(node.gpus for node in self.nodes)

    @property
    def decoder_cpus(self) -> float:
        """Logical CPUs of nodes without a GPU."""
        return sum(node.cpus for node in self.nodes if not node.gpus)

    def worker_cpus(self, gpu: bool) -> float:
        """The CPUs that a training worker finds at most on one node: a GPU's share of them, or those of the largest."""
        if gpu:
            return min(node.cpus / node.gpus for node in self.nodes if node.gpus)
        return max(node.cpus for node in self.nodes)


@dataclass(frozen=True, config=STRICT)
class NamedProfile:
    """A way to share a machine or a cluster out that has a name.

    Attributes:
        about: what it is for.
        cpus: logical ones that it wants at least.
        gpus: that it wants at least; 0 leaves alone those that are there.
        decoder_cpus: that it wants at least on nodes without a GPU. Above 0, only these nodes are counted on to decode:
            Ray itself sends work that wants no GPU to nodes that have none, while there is room.
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
"""What `--profile` takes. Without it a job takes what there is."""


def choose(name: str | None, have: Resources, train_workers: int = 1) -> Profile:
    """A profile, cut to what there is.

    Args:
        name: one of `PROFILES`; None takes what there is.
        have: of the machine or the cluster.
        train_workers: data-parallel workers that the job wants.

    Raises:
        ConfigError: there is less than it asks for, or no such profile.
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
    # On two machines of four CPUs there are eight, and no place for a worker that wants five.
    return replace(profile, train_cpus=min(profile.train_cpus, have.worker_cpus(gpus > 0) / 2))


def find(name: str) -> NamedProfile:
    """A profile by its name.

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
            raise ConfigError(
                f"profile {name} wants {most:g} {what}, {have.place} has {there:g}; take another --profile, or add "
                f"{way_out}."
            )


def _check_workers(train_workers: int, gpus: int, have: Resources) -> None:
    if train_workers < 1:
        raise ConfigError(f"{train_workers} training workers cannot train; ask for one at least (--workers 1).")
    if gpus and train_workers > gpus:
        raise ConfigError(
            f"{train_workers} training workers want a GPU each, {have.place} has {gpus}; ask for fewer (--workers "
            f"{gpus}), or for --profile laptop, which computes on CPUs."
        )
    if train_workers > have.cpus:
        raise ConfigError(
            f"{train_workers} training workers are more than the {have.cpus:g} CPUs of {have.place}; ask for fewer."
        )


def fit(name: str, cores: int, logical_cpus: float, gpus: int = 0, train_workers: int = 1) -> Profile:
    """A profile for so many logical CPUs, however few.

    Of each core's share five eighths decode and one predicts; two are left, of which a task that reads takes one. So
    there is room for one on some node, however Ray lays the actors out, also on nodes of one CPU.
    """
    share = logical_cpus / cores
    return Profile(
        name=name,
        cores=cores,
        logical_cpus=logical_cpus,
        gpus=gpus,
        decode_cpus=share * 0.625,
        predict_cpus=share * 0.125,
        # A GPU is never cut into more than a whole: a share above one would have to be a whole number. On many cores
        # the default bundle takes a third of the time that decoding takes.
        predict_actors=max(2, min(cores, 8), gpus or cores // 2),
        io_cpus=share * 0.125,
        train_workers=train_workers,
        train_cpus=min(logical_cpus / 8, logical_cpus / 4 / train_workers),
        dashboard=False,
    )


def this_machine(gpus: int = 0) -> Resources:
    """This machine, with a Ray of its own, which is told of eight CPUs at least."""
    cores = machine_cores()
    return Resources("this machine", cores, (NodeResources(max(cores, FEWEST_LOGICAL_CPUS), gpus),))


def machine_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def laptop(train_workers: int = 1) -> Profile:
    """This machine, computing on its CPU."""
    return choose("laptop", this_machine(), train_workers)
