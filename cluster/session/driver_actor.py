"""Actors that run on the driver's node, so they survive the death of any other node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Concatenate, Final, Generic, ParamSpec, TypeVar, cast

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

State = TypeVar("State")
Answer = TypeVar("Answer")
Parameters = ParamSpec("Parameters")

_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})


class DriverActor(Generic[State]):
    """Handle of such an actor. You can pickle it; the actor ends when the last copy is gone.

    Name a method by its class, as in `actor.ask(Counts.read)`, so that arguments and results keep their types.
    """

    def __init__(self, handle: ActorHandle[State]) -> None:
        self._handle = handle

    @classmethod
    def start(
        cls, kind: type[State], *arguments: object, environment: Mapping[str, str] = _NO_VARIABLES
    ) -> DriverActor[State]:
        """Start an actor on the driver's node; it takes no CPU.

        The head keeps no record of its calls. There are several for each block of tracks, and kilobytes for each call.

        Args:
            kind: class of the actor's state.
            arguments: arguments of its constructor.
            environment: variables for its process.
        """
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        runtime = {"runtime_env": {"env_vars": dict(environment)}} if environment else {}
        options = {"num_cpus": 0, "scheduling_strategy": here, "enable_task_events": False, **runtime}
        actor = ray.remote(kind).options(**options).remote(*arguments)
        return cls(cast("ActorHandle[State]", actor))

    def tell(
        self,
        method: Callable[Concatenate[State, Parameters], object],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> None:
        """Call a method without waiting. Errors are lost."""
        getattr(self._handle, method.__name__).remote(*arguments, **named)

    def ask(
        self,
        method: Callable[Concatenate[State, Parameters], Answer],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Answer:
        """Call a method and return its result. A call takes about 2 ms.

        Raises:
            RayError: the actor is gone.
        """
        answer: Answer = ray.get(getattr(self._handle, method.__name__).remote(*arguments, **named))
        return answer

    def ask_within(
        self,
        seconds: float,
        method: Callable[Concatenate[State, Parameters], Answer],
        *arguments: Parameters.args,
        **named: Parameters.kwargs,
    ) -> Answer:
        """Call a method and return its result, if it comes in time.

        Raises:
            RayError: the actor is gone, or does not answer in time.
        """
        answer: Answer = ray.get(getattr(self._handle, method.__name__).remote(*arguments, **named), timeout=seconds)
        return answer
