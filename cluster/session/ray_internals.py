"""Every private or undocumented name of Ray 2.60 that this project touches.

Nothing else imports a private module of Ray or names its private settings, process titles and files. After an upgrade
of Ray, fix what the contract test of this module reports. Only the functions that need Ray import it. Its compiled and
generated modules are Any, because mypy does not know their names.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ray.data import ExecutionOptions
    from ray.train import DataConfig
    from ray.train.v2._internal.execution.context import TrainRunContext as TrainRunContext

# Settings: environment variables that Ray's documentation does not list.

DRIVER_SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Reports reach the controller within a fifth of a second instead of two.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        # Every ten seconds, Ray Data divides the cluster among the streams that ask for it. A killed driver's stream
        # keeps its share for this long. With Ray's three minutes, a job that is submitted again at once gets half of
        # the cluster; on two nodes of one CPU it then stages nothing until everything is decoded.
        "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S": "30",
        # Ray would send a usage report over the internet.
        "RAY_USAGE_STATS_ENABLED": "0",
        # The C++ core's warnings do not concern the user. They still go to Ray's log files.
        "RAY_BACKEND_LOG_LEVEL": "fatal",
        # A worker of a local Ray that ends would kill its children, and with them the process that deletes the
        # semaphores of the decoder in /dev/shm. They end with their parent by themselves.
        "RAY_kill_child_processes_on_worker_exit": "0",
        # Workers see only the GPUs they were given, even if they were given none.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
)
"""Settings of every driver."""

TRACKED_TRAINING: Final = "RAY_TRAIN_ENABLE_STATE_TRACKING"
"""If set to 1, the dashboard's Train page lists trainings."""

STARTUP_CONCURRENCY: Final = "RAY_worker_maximum_startup_concurrency"
"""Number of workers that start at once. Ray warns if more are needed than the machine has cores."""

METRICS_INTERVAL_MS: Final = "RAY_metrics_report_interval_ms"
"""Milliseconds between a worker's reports of its counters."""

NODE_REPORT_INTERVAL_MS: Final = "REPORTER_UPDATE_INTERVAL_MS"
"""Milliseconds between a node's reports of its own CPU and memory."""

WORKER_START_SECONDS: Final = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""Seconds that Ray Train waits for its workers to start before it tries again."""

HEAD_PATIENCE_SECONDS: Final = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Seconds for which a driver looks for a head that does not answer, before Ray ends the driver."""

MEMORY_THRESHOLD: Final = "RAY_memory_usage_threshold"
"""Share of a node's memory, 0 to 1, above which Ray kills workers there."""

QUICK_NODE_CHECKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # A dead node is noticed after 2 s instead of 20.
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "3",
        STARTUP_CONCURRENCY: "8",
    }
)
"""Settings of nodes that share one machine."""

JOB_MARK: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this in the driver of a submitted job."""

QUIET_LOGGERS: Final = (
    "ray",
    "ray.data",
    "ray.train",
    "ray.tune",
    "ray._private.authentication.authentication_token_setup",
)
"""Loggers that print to the terminal of a driver."""

ADVICE_ON_BLOCKS: Final = "The maximum number of concurrent tasks for '"
"""Start of a warning of Ray Data to those who write pipelines. A small catalog has fewer blocks than writers."""

TRAIN_RUNS_PATH: Final = "/api/train/v2/runs/v1"
"""Path at which the dashboard answers with its trainings, as JSON."""

SESSIONS: Final = "session_*"
LATEST_SESSION: Final = "session_latest"
"""Pattern of the folders of sessions, and the link to the latest one beside them."""

# Processes: their titles and what they print.

_TITLE: Final = "ray::"

TRAIN_WORKER: Final = "RayTrainWorker"
"""Part of the title of a worker of Ray Train."""

WRITE_TASK: Final = "Write"
"""Part of the title of a task that writes blocks."""

HEAD: Final = b"gcs/gcs_server"
"""Part of the command line of the process that keeps the state of a head."""

RAYLET: Final = b"raylet/raylet"
"""Part of the command line of a node's raylet."""


def is_worker_title(title: str) -> bool:
    """Return whether a process is an actor, a task or an idle worker of Ray, by its title."""
    return title.startswith(_TITLE)


def is_idle_title(title: str) -> bool:
    """Return whether a process is an idle worker, by its title."""
    return title.startswith(f"{_TITLE}IDLE")


def worker_name(title: str) -> str:
    """Return the class or function that a worker runs, by its title."""
    return title.removeprefix(_TITLE).partition("(")[0].partition(".")[0].strip()


def map_worker_title(stage: str) -> str:
    """Return the beginning of the title of an actor that runs a stage of Ray Data."""
    return f"{_TITLE}MapWorker(MapBatches({stage}"


def busy_map_worker(stage: str) -> str:
    """Return a part of the title that such an actor has while it works on a batch."""
    return f"{stage})).submit"


def has_started(output: bytes) -> bool:
    """Return whether `ray start` has printed that its node is up."""
    return b"Ray runtime started" in output


def prometheus_targets(ray_folder: Path) -> Path:
    """Return the file in a head's folder that lists the metrics ports of all nodes."""
    return ray_folder / "prom_metrics_service_discovery.json"


def is_submitted_job() -> bool:
    """Return whether this process is the driver of a submitted job."""
    return JOB_MARK in os.environ


# Ray Core.


def enable_token() -> None:
    """Let this driver use the token in ~/.ray, if there is one. A head uses it by default."""
    from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available

    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def supply_token() -> None:
    """Give a local Ray a token for this job alone where it cannot keep one in ~/.ray.

    A container's user often has no home directory, or may not write there. Nothing else of mgc needs one.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    from ray import _raylet
    from ray._private.authentication.authentication_token_generator import generate_new_authentication_token

    raylet: Any = _raylet
    loader = raylet.AuthenticationTokenLoader.instance()
    if loader.has_token(ignore_auth_mode=True):
        return
    usable = False
    with contextlib.suppress(OSError, RuntimeError):
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK | os.X_OK)
    if not usable:
        os.environ["RAY_AUTH_TOKEN"] = generate_new_authentication_token()
        loader.reset_cache()


def answers_strangers() -> bool:
    """Return whether the connected head answers a caller without a token, who could then run any code on its nodes.

    Raises:
        ConnectionError: the head does not answer in time.
    """
    import grpc
    import ray
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    messages: Any = gcs_service_pb2
    services: Any = gcs_service_pb2_grpc
    with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
        try:
            services.NodeInfoGcsServiceStub(channel).GetClusterId(messages.GetClusterIdRequest(), timeout=10.0)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise ConnectionError(f"the head answers {error.code().name}") from None
    return True


def read_settings_again() -> None:
    """Read Ray's settings from the environment once more; Ray reads them when it is imported."""
    from ray import _raylet

    raylet: Any = _raylet
    raylet.Config.initialize("")


def keep_off_terminal() -> None:
    """Keep off stdout and stderr the deaths of workers, and the stacks and advice of Ray Data.

    Ray's log files have both. A job explains its end in one line, or shows the stack of what it cannot explain.
    """
    warnings.filterwarnings("ignore", message=ADVICE_ON_BLOCKS)
    # On a full disk, Python would print a stack for each line that Ray's log files cannot take.
    logging.raiseExceptions = False
    import ray._private.worker

    worker: Any = ray._private.worker
    worker._worker_logs_enabled = False
    # Ray Data also logs the stack of an exception that it raises.
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)


def session_folder() -> Path:
    """Return the folder in which the local Ray of this process keeps its logs and sockets."""
    import ray._private.worker

    worker: Any = ray._private.worker
    return Path(worker._global_node.get_session_dir_path())


def memory_bytes() -> tuple[int, int]:
    """Return the memory of this machine or container, and how much of it is in use, in bytes."""
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    return int(get_system_memory()), int(get_used_memory())


@dataclass(frozen=True)
class KilledWorker:
    """A worker of this job that ended without being asked to.

    Attributes:
        node: address of its node.
        for_memory: whether Ray ended it because the node was nearly out of memory.
    """

    node: str
    for_memory: bool


def killed_workers(since: float) -> Sequence[KilledWorker]:
    """Return the workers of this job that were killed, in the order in which the cluster lists them.

    Args:
        since: time to begin at, in seconds since 1970.
    """
    import ray
    from ray._private.state import state
    from ray.core.generated import common_pb2, gcs_pb2

    common: Any = common_pb2
    messages: Any = gcs_pb2
    job = bytes.fromhex(ray.get_runtime_context().get_job_id())
    table = [messages.WorkerTableData.FromString(row) for row in state._connect_and_get_accessor().get_worker_table()]
    killed = (common.NODE_OUT_OF_MEMORY, common.SYSTEM_ERROR)
    return [
        KilledWorker(worker.worker_address.ip_address, worker.exit_type == common.NODE_OUT_OF_MEMORY)
        for worker in table
        if (worker.job_id, worker.is_alive) == (job, False)
        and worker.end_time_ms >= since * 1000
        and worker.exit_type in killed
    ]


# Ray Train.


def worker_start_seconds() -> float:
    """Return how long Ray Train waits for its workers to start before it tries again, in seconds."""
    from ray.train.v2._internal.constants import DEFAULT_WORKER_GROUP_START_TIMEOUT_S

    return float(os.environ.get(WORKER_START_SECONDS, DEFAULT_WORKER_GROUP_START_TIMEOUT_S))


def is_worker_start_timeout(error: BaseException | None) -> bool:
    """Return whether training workers did not start in time."""
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    return isinstance(error, WorkerGroupStartupTimeoutError)


def execution_options(config: DataConfig, stream: str) -> ExecutionOptions:
    """Return the options with which a training runs one of its streams."""
    return config._resolve_execution_options(stream)


CHECKPOINT_SNAPSHOT: Final = "checkpoint_manager_snapshot.json"
"""File of a run's folder in which Ray Train lists the checkpoints."""


def checkpoints_in_snapshot(data: bytes) -> list[str]:
    """Return the names of the checkpoints in a snapshot, oldest first.

    Raises:
        ValueError: Ray Train could not resume from this snapshot.
    """
    from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import _CheckpointManagerState

    state = _CheckpointManagerState.model_validate_json(data)
    names, latest = [each.checkpoint_dir_name for each in state.checkpoint_results], state.latest_checkpoint_result
    if latest is not None and latest.checkpoint_dir_name not in names:
        raise ValueError("the latest checkpoint is not in the list")
    return names


# Files and checks of the distribution, for infra.


def check_autoscaler_config(config: Mapping[str, object]) -> None:
    """Complete and validate the configuration of `ray up`.

    Raises:
        jsonschema.ValidationError: a field is wrong.
        ValueError, RuntimeError, KeyError, TypeError: anything else is.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler._private.util").setLevel(logging.WARNING)
    validate_config(prepare_config(dict(config)))


FAKE_SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
)
"""Settings of a head whose autoscaler starts nodes as processes of its own machine."""


def with_fake_provider(config: Mapping[str, object]) -> dict[str, object]:
    """Complete a configuration of `ray up`, and put Ray's provider for tests in the place of its cloud.

    That provider has a name of its own for the kind of the head.
    """
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_TYPE
    from ray.autoscaler._private.util import prepare_config

    made: dict[str, Any] = prepare_config(dict(config))
    kinds = made["available_node_types"]
    kinds[FAKE_HEAD_NODE_TYPE] = kinds.pop(made["head_node_type"])
    fake = {"type": "fake_multinode", "use_node_id_as_ip": True}
    fake |= {"disable_node_updaters": True, "disable_launch_config_check": True}
    return {**made, "head_node_type": FAKE_HEAD_NODE_TYPE, "provider": fake}


def dashboard_panels() -> Sequence[Path]:
    """Return the files that define the panels of Ray's own Grafana dashboards."""
    import ray

    return sorted((Path(ray.__file__).parent / "dashboard/modules/metrics/dashboards").glob("*_panels.py"))
