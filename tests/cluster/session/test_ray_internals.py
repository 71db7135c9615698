"""The private names of Ray: all in one module, and all of them there in this Ray."""

from __future__ import annotations

import ast
import importlib
import mmap
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import ray
import ray.train

from cluster.session import ray_internals

pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).parents[3]
RAY = Path(ray.__file__).parent
OWNER = ROOT / "cluster" / "session" / "ray_internals.py"

PUBLIC_SETTINGS = {"RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"}
SETTINGS = (
    *ray_internals.DRIVER_SETTINGS,
    *ray_internals.QUICK_NODE_CHECKS,
    ray_internals.TRACKED_TRAINING,
    ray_internals.METRICS_INTERVAL_MS,
    ray_internals.NODE_REPORT_INTERVAL_MS,
    ray_internals.WORKER_START_SECONDS,
    ray_internals.HEAD_PATIENCE_SECONDS,
    ray_internals.MEMORY_THRESHOLD,
    ray_internals.JOB_MARK,
)
PRIVATE_TEXT = re.compile(
    r"^RAY_[A-Za-z_]+$|^ray::|^ray\.(\w+\.)*_|Ray runtime started|session_latest|prom_metrics_service|^/api/train/"
    r"|raylet/raylet|gcs_server"
)
PRIVATE_FIELDS = {"_resolve_execution_options", "_execution_idx", "_ray_actor_id"}
MENTIONS = re.compile(
    rf"\bray\b|RAY_|Ray runtime started|session_latest|prom_metrics_service|/api/train/|raylet|gcs_server"
    rf"|{'|'.join(sorted(PRIVATE_FIELDS))}"
)
"""What a file must contain to name any of it, so that most need not be parsed."""


@cache
def files() -> tuple[Path, ...]:
    rooms = ("cluster", "tune", "pipelines", "mgc", "infra", "tests")
    found = [file for room in rooms for file in (ROOT / room).rglob("*.py") if file not in (OWNER, Path(__file__))]
    return tuple(found)


def root_name(node: ast.expr) -> str | None:
    """`ray` of `ray.data.read_parquet`; None where something else than a name stands before the first dot."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def private_names(file: Path) -> list[str]:
    """What of Ray's inside a file names."""
    source = file.read_text(encoding="utf-8")
    if not MENTIONS.search(source):
        return []
    tree = ast.parse(source)
    found: list[str] = []
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)] if root_name(node) == "ray" else []
            if node.attr in PRIVATE_FIELDS:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in prose:
            text = node.value if isinstance(node.value, str) else node.value.decode(errors="replace")
            if PRIVATE_TEXT.search(text) and text not in PUBLIC_SETTINGS:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno} {text!r}")
        for name in names:
            if re.fullmatch(r"ray\.(\w+\.)*(_[a-z]\w*|generated)(\.\w+)*", name):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno} {name}")
    return found


def test_private_names_of_ray_stand_in_one_module() -> None:
    assert [name for file in files() for name in private_names(file)] == []


def test_the_search_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    lines = [
        "from ray._private.state import state",
        "from ray import _raylet",
        "import ray.data._internal.plan",
        "x = ray._raylet.Config",
        "from ray.core.generated import autoscaler_pb2",
        "y = {'RAY_backend_log_level': '1'}",
        "z = title.startswith('ray::IDLE')",
        "w = config._resolve_execution_options('train')",
    ]
    for line in lines:
        (tmp_path / "file.py").write_text(f'"""RAY_ADDRESS and ray::IDLE in prose."""\n{line}\n')
        assert private_names(tmp_path / "file.py"), line
    for line in ("import ray", "from ray.data import Dataset", "y = 'RAY_ADDRESS'", "ray.get(self._actor)"):
        (tmp_path / "file.py").write_text(line)
        assert private_names(tmp_path / "file.py") == [], line


@cache
def sources() -> str:
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in RAY.rglob("*.py"))


@cache
def in_core(text: str) -> bool:
    for name in ("_raylet.so", "core/src/ray/raylet/raylet", "core/src/ray/gcs/gcs_server"):
        with (RAY / name).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as core:
            if core.find(text.encode()) >= 0:
                return True
    return False


@pytest.mark.parametrize("name", SETTINGS)
def test_ray_still_reads_the_setting(name: str) -> None:
    assert name in sources() or in_core(name) or in_core(name.removeprefix("RAY_")), f"no setting {name} in Ray"


@pytest.mark.parametrize("name", ray_internals.QUIET_LOGGERS)
def test_the_logger_is_that_of_a_module(name: str) -> None:
    importlib.import_module(name)


def test_titles_and_lines_are_those_that_ray_writes() -> None:
    assert in_core("ray::IDLE") or "ray::IDLE" in sources(), "no title ray::IDLE"
    assert ray_internals.is_worker_title("ray::IDLE")
    assert ray_internals.is_idle_title("ray::IDLE")
    assert ray_internals.worker_name("ray::Counts.add") == "Counts"
    assert ray_internals.has_started((RAY / "scripts" / "scripts.py").read_bytes()), "`ray start` prints another line"
    assert ray_internals.prometheus_targets(Path("/")).name in sources(), "no such file for Prometheus"
    assert ray_internals.TRAIN_WORKER in sources(), "no such worker of Ray Train"
    for part in ("MapBatches", "_MapWorker", '"Write"'):
        assert part in sources(), f"titles have no {part}"
    assert ray_internals.TRAIN_RUNS_PATH in sources(), "no such path of the dashboard"
    assert ray_internals.ADVICE_ON_BLOCKS in sources(), "no such warning of Ray Data"


def test_ray_train_has_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.train.v2._internal.constants import WORKER_GROUP_START_TIMEOUT_S_ENV_VAR

    assert WORKER_GROUP_START_TIMEOUT_S_ENV_VAR == ray_internals.WORKER_START_SECONDS
    monkeypatch.delenv(ray_internals.WORKER_START_SECONDS, raising=False)
    assert ray_internals.worker_start_seconds() > 1
    monkeypatch.setenv(ray_internals.WORKER_START_SECONDS, "4")
    assert ray_internals.worker_start_seconds() == 4
    assert not ray_internals.is_worker_start_timeout(ValueError())
    options = ray_internals.execution_options(ray.train.DataConfig(), "train")
    assert options.preserve_order is False
    importlib.import_module("ray.train.v2._internal.execution.context").TrainRunContext  # noqa: B018


def test_memory_settings_and_files_are_there() -> None:
    total, used = ray_internals.memory_bytes()
    assert 0 < used < total
    ray_internals.read_settings_again()
    assert len(ray_internals.dashboard_panels()) > 2
    assert "ray_" in ray_internals.dashboard_panels()[0].read_text()


def test_a_configuration_of_ray_up_is_checked() -> None:
    import yaml

    file = ROOT / "infra" / "aws" / "ray-cluster.yaml"
    ray_internals.check_autoscaler_config(yaml.safe_load(file.read_text()))
    with pytest.raises(Exception, match="max_workers"):
        ray_internals.check_autoscaler_config({**yaml.safe_load(file.read_text()), "max_workers": "many"})


def test_the_token_is_shown_where_there_is_one(tmp_path: Path) -> None:
    """In a process of its own: it changes Ray's settings for good."""
    code = (
        "import os; from cluster.session import ray_internals; ray_internals.enable_token(); "
        "print(os.environ['RAY_AUTH_MODE'])"
    )
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a" * 64)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin"},
    )  # fmt: skip
    assert done.stdout.strip() == "token", done.stderr
