"""Connect to Ray: to the cluster named in the environment, or to a local Ray that mgc starts."""

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
from typing import Final, TypeVar

import ray
from ray.data import DataContext
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.session import ray_internals
from cluster.session.causes import full_disk_line
from cluster.session.lifetime import ends_with_job
from cluster.session.local.home import do_without_home
from cluster.session.local.leftovers import delete_old_sessions, delete_session
from cluster.session.profiles import (
    GROWTH,
    NodeResources,
    Profile,
    Resources,
    choose,
    find,
    growth,
    laptop,
    machine_cores,
)
from cluster.session.stalls import explained_stalls
from mgc.errors import ConfigError, ResourceError

_LOOK_SECONDS: Final = 60.0
_KNOCK_SECONDS: Final = 10.0

Found = TypeVar("Found")


@contextlib.contextmanager
def connect(
    address: str | None = None,
    train_workers: int = 1,
    profile: Profile | str | None = None,
    dashboard: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Profile]:
    """Connect to Ray, and disconnect at the end.

    Args:
        address: address of a running cluster; by default `RAY_ADDRESS`, which Ray sets inside a submitted job. Without
            either, mgc starts a local Ray and ends it with the job.
        train_workers: number of data-parallel workers that the job wants.
        profile: a name in `profiles.PROFILES`; None uses all there is. An open connection keeps its own profile.
        dashboard: whether a local Ray starts its dashboard.
        environment: variables for all processes of the job. An open connection keeps its own.

    Yields:
        The profile that fits the cluster.

    Raises:
        ConfigError: there is no such profile.
        ResourceError: the machine or the cluster has less than the profile or the workers need, does not answer, or
            does not give what the job needs in time.
    """
    if isinstance(profile, Profile):
        yield profile
        return
    if profile is not None:
        # Refuse an unknown name before Ray starts.
        find(profile)
    address = address or os.environ.get("RAY_ADDRESS") or None
    if ray.is_initialized():
        # Use a connection that the caller opened (tests, the demo), and leave it open.
        with _profiled("the cluster", profile, train_workers) as chosen:
            yield chosen
        return
    _set_up(address)
    try:
        _start(address, dashboard, environment or {})
    except Exception as error:
        # Of a node that takes too long, Ray raises Exception itself. Other classes are bugs, and show their traceback.
        if type(error) is not Exception and not isinstance(error, (ConnectionError, RuntimeError, ValueError)):
            raise
        raise (_no_answer(address, str(error)) if address else _no_start(str(error))) from None
    session = None if address else ray_internals.session_folder()
    if session is not None:
        delete_old_sessions(session.parent)
    try:
        with _profiled("the cluster" if address else "this machine", profile, train_workers) as chosen:
            yield chosen
    except BaseException:
        # Ray ends the process at once if a thread, such as Ray Data's scheduler, still waits for it while it shuts
        # down. Where the process ends anyway, the job first says why, and Ray shuts down when Python exits.
        if not ends_with_job():
            ray.shutdown()
        raise
    ray.shutdown()
    if session is not None:
        # The logs of a job that has failed stay for a week.
        delete_session(session)


def _set_up(address: str | None) -> None:
    """Set Ray's settings, except those that the environment sets.

    Raises:
        ResourceError: nothing listens at the address.
    """
    if address:
        _knock(address)
        # A local Ray that mgc starts has no dashboard with a Train page.
        os.environ.setdefault(ray_internals.TRACKED_TRAINING, "1")
    for name, value in ray_internals.DRIVER_SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault(ray_internals.STARTUP_CONCURRENCY, str(int(laptop().logical_cpus)))


def _start(address: str | None, dashboard: bool, environment: Mapping[str, str]) -> None:
    """Join a cluster, or start a local one, without printing anything."""
    runtime = {"env_vars": dict(environment)} if environment else None
    # Ray replaces the job's handler. Without this, a terminated job would end without its message and summary.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _core_silenced():
            if address:
                ray_internals.enable_token()
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, runtime_env=runtime)
            else:
                local = laptop()
                do_without_home()
                ray.init(
                    address="local",
                    num_cpus=int(local.logical_cpus),
                    include_dashboard=local.dashboard or dashboard,
                    object_store_memory=object_store_bytes(),
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    runtime_env=runtime,
                )
    except SystemExit:
        # Ray's handler of SIGTERM would end the process without a message.
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, handler)
    for name in ray_internals.QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    ray_internals.keep_off_terminal()


@contextlib.contextmanager
def _profiled(place: str, profile: str | None, train_workers: int) -> Iterator[Profile]:
    """Yield the profile that fits the connected Ray. Explain errors that come from a lack of resources."""
    chosen = _patient(choose(profile, at_hand(place), train_workers))
    with explained_stalls(chosen):
        yield chosen


def _knock(address: str) -> None:
    """Check that something listens at an address, because Ray itself tries for more than two minutes.

    Words such as `auto` are left to Ray.

    Raises:
        ResourceError: nothing listens there.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, str(error)) from None


def _no_answer(address: str, reason: str) -> ResourceError:
    return ResourceError(
        f"Ray at {address} does not answer: {_one_line(reason)}. Start it with `RAY_AUTH_MODE=token ray "
        "start --head`, or unset RAY_ADDRESS to use a local one."
    )


def _no_start(reason: str) -> ResourceError:
    # Of a full disk, Ray says only that its head does not answer.
    why = full_disk_line() or (
        f"{_one_line(reason)}. If other programs keep it busy, run the command again when they have ended; "
        "`mgc doctor` looks at the machine."
    )
    return ResourceError(f"Ray did not start on this machine: {why}")


def _one_line(reason: str) -> str:
    return " ".join(reason.split())[:200].rstrip(".")


def data_context(profile: Profile) -> DataContext:
    """Set Ray Data's settings for our jobs on the current context, and return it."""
    context = DataContext.get_current()
    # progress.py shows the progress. Ray's own goes to its log files.
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = profile.stall_seconds
    return context


def at_hand(place: str) -> Resources:
    """Return the resources of the connected Ray, including those that its autoscaler may still start (`MGC_NODES`).

    Args:
        place: name of the cluster, for messages.

    Raises:
        ConfigError: `MGC_NODES` cannot be read.
        ResourceError: there are no CPUs.
    """
    found = [_node(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    alive = Counter(node for node in found if node.cpus > 0)
    # Some of them may be up already.
    for node, most in may_start().items():
        alive[node] = max(alive[node], most)
    nodes = tuple(alive.elements())
    if not nodes:
        raise ResourceError(
            "the Ray cluster has no CPUs: start its head with `ray start --head --num-cpus N`. If an autoscaler adds "
            f"nodes, say which: {GROWTH}=20x8 for up to 20 nodes of 8 CPUs."
        )
    logical = max(1, int(sum(node.cpus for node in nodes)))
    # A head on a small machine may have more logical CPUs than cores, as we advise.
    cores = min(logical, machine_cores()) if len(nodes) == 1 else logical
    return Resources(place, cores, nodes)


def may_start() -> Mapping[NodeResources, int]:
    """Return the largest number of nodes of each kind that an autoscaler may start; none without one.

    Raises:
        ConfigError: `MGC_NODES` cannot be read.
    """
    text = os.environ.get(GROWTH)
    return growth(text) if text else {}


def _node(resources: Mapping[str, float]) -> NodeResources:
    return NodeResources(float(resources.get("CPU", 0.0)), int(resources.get("GPU", 0)))


def look_at_nodes(look: Callable[[], Found]) -> dict[str, Found | str]:
    """Run a function on each node of the connected cluster, for at most a minute.

    Args:
        look: function that can be pickled.

    Returns:
        Its result by node, or the reason for having none, in one line.
    """
    remote = ray.remote(look)
    tasks: dict[str, ray.ObjectRef[Found]] = {}
    for node in ray.nodes():
        if node["Alive"]:
            # The task takes no CPU, so it can also run on a busy node.
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = remote.options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            tasks[f"node {node['NodeManagerAddress']}"] = task.remote()
    ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=_LOOK_SECONDS)
    found: dict[str, Found | str] = {}
    for name, result in tasks.items():
        try:
            found[name] = ray.get(result, timeout=0)
        except (RayError, ImportError) as error:
            # The reason is the last line of what a worker raised.
            found[name] = str(error).strip().splitlines()[-1][:300] if str(error).strip() else type(error).__name__
    return found


def _patient(profile: Profile) -> Profile:
    """Return the profile with the user's stall time. A growing cluster may need longer for its first node."""
    text = os.environ.get("MGC_STALL_SECONDS")
    if text is None:
        return profile
    if not text.isdecimal() or not int(text):
        raise ConfigError(f"MGC_STALL_SECONDS is {text!r}; it must be a whole number of seconds above 0.")
    return replace(profile, stall_seconds=float(text))


@contextlib.contextmanager
def _core_silenced() -> Iterator[None]:
    """Keep the messages of Ray's C++ core off the terminal while it starts. Failures still raise exceptions."""
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
    """Return a size for the object store: a tenth of the memory, from 128 MiB to 2 GiB.

    Our blocks are small, and shared memory is often scarce.
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min(max(total // 10, 128 * 2**20), 2 * 2**30))
