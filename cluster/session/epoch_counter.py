"""Which epoch a training is in, for the stages of its stream.

Ray Data runs the same plan again in each epoch; a stage that is to do something else in each one asks here.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


class Epoch:
    """A number; as a Ray actor, that of a whole training."""

    def __init__(self) -> None:
        self._number = 0

    def begin(self, number: int) -> None:
        """The epoch that the next pass over the stream is of, counted from 0."""
        self._number = number

    def number(self) -> int:
        """The epoch that has begun last."""
        return self._number


class AskEpoch:
    """A function of no arguments that may travel to any task: which epoch it is, counted from 0."""

    def __init__(self, epoch: Any) -> None:
        self._epoch = epoch

    def __call__(self) -> int:
        """Asks the actor: about 2 ms."""
        number: int = ray.get(self._epoch.number.remote())
        return number


def start() -> Any:
    """A handle of an `Epoch` that lives as long as the handle.

    The first worker calls `begin` before it asks for its batches. A pass over the stream begins when every worker has
    asked (Ray's streaming split waits for them), so no task of it finds another number, and none of the pass before is
    needed any more. After a resume the number is that of the epoch that is done again.
    """
    # With the driver: a node that dies must not take it along.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Epoch)
    return actor.options(num_cpus=0, scheduling_strategy=here).remote()
