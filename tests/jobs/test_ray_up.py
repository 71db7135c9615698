"""infra/aws/ray-cluster.yaml without a cloud: its head starts as it stands there, grows, and labels on the new node.

Ray's own provider for tests starts the nodes, as processes of this machine. A network and process ids of their own keep
them apart: the file's ports are fixed, and its `ray stop` ends every Ray that it sees.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.labels.table import LabelsTable
from cluster.session import ray_internals
from cluster.storage.uri import Uri
from mgc.datasets.synthetic import SyntheticConfig, encode, plan_corpus

MISSING = [name for name in ("unshare", "ip") if shutil.which(name) is None]
MISSING += [] if os.geteuid() == 0 else ["root's rights"]

pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(bool(MISSING), reason=f"namespaces need {', '.join(MISSING)}"),
]

ROOT = Path(__file__).parents[2]

NODES = """
import json, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
print("NODES", json.dumps([node["Resources"] for node in ray.nodes() if node["Alive"]]))
"""


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for Ray's own files: the path of a socket must be short."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_job_runs_on_a_node_that_the_autoscaler_adds(short: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "infra" / "aws" / "ray-cluster.yaml").read_text())
    home, music = tmp_path / "home", tmp_path / "music"
    home.mkdir()
    music.mkdir()
    small = SyntheticConfig(shortest_seconds=4, longest_seconds=4, damaged_tracks=0)
    for number, plan in enumerate(plan_corpus(small)[:2]):
        (music / f"{number}.mp3").write_bytes(encode(plan))
    python, labels = Path(sys.executable), tmp_path / "labels"
    job = f"{python} -m pipelines.cli label {music} --labels {labels} --profile laptop"
    # `ray up` says it in the head's environment, which the nodes of the provider for tests would inherit.
    head_cpus = config["available_node_types"][config["head_node_type"]]["resources"]["CPU"]
    decoders = config["available_node_types"]["decoders"]
    # This machine is not to carry twenty nodes. The job reckons with MGC_NODES, as it stands in the head's command.
    decoders["max_workers"] = 1
    (home / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(ray_internals.with_fake_provider(config)))
    script = [
        # Ray asks the route to the internet for the node's address.
        "ip link set lo up && ip address add 10.1.0.1/32 dev lo && ip route add default dev lo src 10.1.0.1",
        "ray get-auth-token --generate > /dev/null",
        *(each.replace("--head", f"--head --num-cpus={head_cpus}") for each in config["head_start_ray_commands"]),
        "export RAY_AUTH_MODE=token",
        f"python -c '{NODES}'",
        f"ray job submit --address http://127.0.0.1:8265 -- {job}",
        f"python -c '{NODES}'",
    ]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        **ray_internals.FAKE_SETTINGS,
        "HOME": str(home),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(short),
    }
    done = subprocess.run(
        ["unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-euxc", "\n".join(script)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=540,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    before, after = (json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("NODES "))
    assert [node.get("CPU", 0) for node in before] == [0]
    assert sorted(node.get("CPU", 0) for node in after) == [0, decoders["resources"]["CPU"]]
    assert LabelsTable(Uri.of_path(labels)).dataset().count_rows() == 2
