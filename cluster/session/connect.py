"""Connect to Ray: the cluster that the environment names, or a local one of our own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.state import state
from ray.data import DataContext
from ray.data.exceptions import ExecutionTimeoutError
from ray.train import ControllerError, TrainingFailedError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.session.profiles import NodeResources, Profile, Resources, choose, find, laptop, machine_cores
from mgc.errors import ConfigError, ResourceError

_QUIET = ("ray", "ray.data", "ray.train", "ray.tune", "ray._private.authentication.authentication_token_setup")

_MANY_NODES = 100
"""Taken for an autoscaler that knows no bound."""

_LOOK_SECONDS = 60.0
_KNOCK_SECONDS = 10.0

Found = TypeVar("Found")


@contextlib.contextmanager
def connect(
    address: str | None = None,
    train_workers: int = 1,
    profile: Profile | str | None = None,
    dashboard: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Profile]:
    """Connect, and disconnect at the end.

    Args:
        address: of a running cluster; by default what `RAY_ADDRESS` says, which Ray sets inside a submitted job.
            Without either, a local Ray is started and ended with the job.
        train_workers: data-parallel workers that the job wants.
        profile: a name of `profiles.PROFILES`; without it the job takes what there is. That of a session which is open
            already is given back as it is.
        dashboard: start a local Ray with its dashboard.
        environment: variables for all processes of the job; those of a session that is open already stay as they are.

    Yields:
        The profile that fits what was connected to.

    Raises:
        ConfigError: the machine or the cluster has less than the profile or the workers ask for.
        ResourceError: the cluster does not answer, or does not give what the job needs in time.
    """
    if isinstance(profile, Profile):
        yield profile
        return
    if profile is not None:
        # An unknown name is known before Ray starts.
        find(profile)
    address = address or os.environ.get("RAY_ADDRESS") or None
    if ray.is_initialized():
        # A caller's session (tests, the demo): use it, and leave it open.
        chosen = _patient(choose(profile, at_hand("the cluster"), train_workers))
        with _stalls_said(chosen):
            yield chosen
        return
    if address:
        _knock(address)
    # Reports reach the controller within a fifth of a second instead of two.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    # Ray Data shares the cluster out among the streams that ask for it every ten seconds. That of a driver that was
    # killed keeps its share until this time is over. With Ray's three minutes a job that is submitted again at once has
    # half of the cluster, and on two nodes of one CPU it stages nothing before all is heard.
    os.environ.setdefault("RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S", "30")
    # Ray's own usage report would go to the internet.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # The core's own warnings name things that are Ray Data's business; they stay in Ray's log files.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Workers see the devices they were given, also where they were given none.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local = laptop()
    if address:
        # For the dashboard's Train page; a local Ray of ours has no dashboard.
        os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
    # As many workers as logical CPUs may start at once; more, and Ray warns that there are too many for the cores.
    os.environ.setdefault("RAY_worker_maximum_startup_concurrency", str(int(local.logical_cpus)))
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    if environment:
        options["runtime_env"] = {"env_vars": dict(environment)}
    # Ray puts a handler of its own in place of the job's: a terminated job would end without its line and its summary.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _core_silenced():
            if address:
                # A head takes the token that lies in ~/.ray, where there is one; a driver must be told to show it.
                maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
                ray.init(address=address, ignore_reinit_error=False, **options)
            else:
                ray.init(
                    address="local",
                    num_cpus=int(local.logical_cpus),
                    include_dashboard=local.dashboard or dashboard,
                    object_store_memory=object_store_bytes(),
                    **options,
                )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_answer(address, str(error)) from None
    finally:
        signal.signal(signal.SIGTERM, handler)
    try:
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.ERROR)
        have = at_hand("the cluster" if address else "this machine")
        chosen = _patient(choose(profile, have, train_workers))
        with _stalls_said(chosen):
            yield chosen
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Whether anything listens there at all: Ray itself tries for more than two minutes.

    Raises:
        ResourceError: nothing does. Words such as `auto` are left to Ray.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, str(error)) from None


def _no_answer(address: str | None, reason: str) -> ResourceError:
    return ResourceError(
        f"Ray at {address or 'this machine'} does not answer: {' '.join(reason.split())[:200]}. "
        "Start it with `ray start --head`, or unset RAY_ADDRESS to use a local one."
    )


def data_context(profile: Profile) -> DataContext:
    """Ray Data's settings for our jobs, on the current context."""
    context = DataContext.get_current()
    # Bars and lines are ours (progress.py): Ray's go to its log files.
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = profile.stall_seconds
    return context


def at_hand(place: str) -> Resources:
    """What the Ray that is connected to has, and may yet start where it grows by itself.

    Args:
        place: for messages.

    Raises:
        ResourceError: there are no CPUs.
    """
    found = [_node(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    alive = Counter(node for node in found if node.cpus > 0)
    # What an autoscaler may start comes in kinds of nodes, of which some may be there already.
    config = state.get_cluster_config()
    for group in config.node_group_configs if config else ():
        node = _node(group.resources)
        if node.cpus > 0:
            alive[node] = max(alive[node], group.max_count if group.max_count >= 0 else _MANY_NODES)
    nodes = tuple(alive.elements())
    if not nodes:
        raise ResourceError("the Ray cluster has no CPUs: start its head with `ray start --head --num-cpus N`.")
    logical = max(1, int(sum(node.cpus for node in nodes)))
    # A head on one small machine may have been given more logical CPUs than it has cores, as we advise.
    cores = min(logical, machine_cores()) if len(nodes) == 1 else logical
    return Resources(place, cores, nodes)


def _node(resources: Mapping[str, float]) -> NodeResources:
    return NodeResources(float(resources.get("CPU", 0.0)), int(resources.get("GPU", 0)))


def looked_at(look: Callable[[], Found]) -> dict[str, Found | str]:
    """What a function finds on each node of the cluster that is connected to, at most a minute long.

    Args:
        look: that can be pickled.

    Returns:
        Its results by node, or in a line why there is none.
    """
    remote: Any = ray.remote(look)
    tasks: dict[str, Any] = {}
    for node in ray.nodes():
        if node["Alive"]:
            # None of the node's CPUs: what is busy can be looked at too.
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = remote.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            tasks[f"node {node['NodeManagerAddress']}"] = task.remote()
    ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=_LOOK_SECONDS)
    found: dict[str, Found | str] = {}
    for name, task in tasks.items():
        try:
            found[name] = ray.get(task, timeout=0)
        except (ray.exceptions.RayError, ImportError) as error:
            # The last line of what a worker raised is the reason.
            found[name] = str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__
    return found


def _patient(profile: Profile) -> Profile:
    """With the user's own patience: a cluster that grows may need longer for its first node."""
    text = os.environ.get("MGC_STALL_SECONDS")
    if text is None:
        return profile
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"MGC_STALL_SECONDS is {text!r}; it is a whole number of seconds above 0.")
    return replace(profile, stall_seconds=float(text))


@contextlib.contextmanager
def _stalls_said(profile: Profile) -> Iterator[None]:
    """One line for a job that waits for resources in vain: they are taken by other work, as a rule."""
    try:
        yield
    except (ExecutionTimeoutError, TrainingFailedError) as error:
        if not _is_stall(error):
            raise
        free = ray.available_resources()
        raise ResourceError(
            f"nothing moved for {profile.stall_seconds:g} s: of the cluster's {profile.logical_cpus:g} CPUs and "
            f"{profile.gpus} GPUs, {free.get('CPU', 0.0):g} and {free.get('GPU', 0.0):g} are free. Other work may hold "
            "them (`ray status`): run the job again when it has ended, or add nodes."
        ) from None


def _is_stall(error: Exception) -> bool:
    """Whether it is resources that were missing: for a stream, for training workers, or for a stream inside of one."""
    if isinstance(error, ControllerError):
        return isinstance(error.controller_failure, WorkerGroupStartupTimeoutError)
    if isinstance(error, WorkerGroupError):
        return any(ExecutionTimeoutError.__name__ in str(failure) for failure in error.worker_failures.values())
    return isinstance(error, ExecutionTimeoutError)


@contextlib.contextmanager
def _core_silenced() -> Iterator[None]:
    """Keep what Ray's C++ core prints while it starts off the terminal; what fails is raised as an exception anyway."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def object_store_bytes() -> int:
    """A tenth of the memory, between 128 MiB and 2 GiB: our blocks are small, and shared memory is often scarce."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(max(total // 10, 128 * 2**20), 2 * 2**30))
