"""`mgc doctor` against a real head and a real object store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.session.inventory import State
from cluster.session.profiles import Profile
from pipelines import doctor
from pipelines.command.job import run
from pipelines.machines import diagnosis
from tests.support.object_store import ObjectStore
from tests.support.ray_head import RayHead

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


def test_a_cluster_and_its_nodes(
    ray_session: Profile, ray_head: RayHead, bucket_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # The session's own connection is used; the address says that a cluster is meant.
    run(doctor.command, ["--address", ray_head.address, "--uri", bucket_uri, "--recipe", "nguyen-prior", "--json"])
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert re.findall(r"\d+", found["cluster"]["value"])[:3] == ["1", "8", "0"]
    (node,) = [each for name, each in found.items() if name.startswith("node ")]
    assert node["value"].startswith("cores ")
    assert found["profile laptop"]["state"] == "works"
    # The test's head has a token.
    assert found["token"]["state"] == "works"
    assert found["object store"]["value"].startswith(bucket_uri)


def test_the_advice_about_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis.ray_internals, "answers_strangers", lambda: True)
    (found,) = diagnosis._look_at_token()
    assert (found.name, found.state) == ("token", State.FAILS)
    assert "RAY_AUTH_MODE=token" in found.advice


@pytest.mark.drill
def test_a_cluster_without_a_token() -> None:
    looked = subprocess.run(
        [sys.executable, "-c", _OPEN_RAY], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=280,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        | {"RAY_AUTH_MODE": "disabled"},
    )  # fmt: skip
    found = {each["name"]: each for each in json.loads(looked.stdout)["findings"]}
    assert found["token"]["state"] == "fails"
    assert "RAY_AUTH_MODE=token" in found["token"]["advice"]
    assert looked.returncode == 3, looked.stderr


_OPEN_RAY = """
import ray
from pipelines import doctor
from pipelines.command.job import run
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
address = ray.get_runtime_context().gcs_address
raise SystemExit(run(doctor.command, ["--address", address, "--recipe", "nguyen-prior", "--json"]))
"""


def test_the_store_answers_or_does_not(
    s3_environment: ObjectStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    small = ["--recipe", "nguyen-prior", "--json"]
    run(doctor.command, small)
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert "answers" in found["object store"]["value"]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-key")
    assert run(doctor.command, small) == 3
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
    assert found["object store"]["state"] == "fails"
    assert "not-the-key" not in json.dumps(found)


def test_a_cluster_that_does_not_answer() -> None:
    # In a process of its own: here a session may be open, which would be asked instead.
    looked = subprocess.run(
        [sys.executable, "-m", "pipelines.doctor", "--address", "127.0.0.1:1", "--recipe", "nguyen-prior", "--json"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100, check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    )  # fmt: skip
    assert looked.returncode == 3, looked.stderr
    found = {each["name"]: each for each in json.loads(looked.stdout)["findings"]}
    assert found["cluster"]["state"] == "fails"
