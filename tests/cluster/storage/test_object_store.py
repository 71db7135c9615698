"""The tests' own object store: it answers as S3, keeps its data, and never outlives its user."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

from tests.support import object_store as swift
from tests.support.object_store import ObjectStore, ObjectStoreError

pytestmark = pytest.mark.cluster

ROOT = Path(swift.__file__).parents[2]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def all_end(pids: list[int], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def by_hand(action: str, folder: Path) -> dict[str, str]:
    command = [sys.executable, "-m", "tests.support.object_store", action, str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert all(words[0] == "export" for words in lines)
    return dict(words[1].split("=", 1) for words in lines)


def test_buckets_are_apart_and_etags_agree(object_store: ObjectStore) -> None:
    client = object_store.client()
    one, other = object_store.make_bucket(), object_store.make_bucket()
    put = client.put_object(Bucket=one, Key="a b#%?ü.mp3", Body=b"x" * 1000)
    listed = client.list_objects_v2(Bucket=one)["Contents"]
    assert [(item["Key"], item["Size"], item["ETag"]) for item in listed] == [("a b#%?ü.mp3", 1000, put["ETag"])]
    assert "Contents" not in client.list_objects_v2(Bucket=other)
    assert client.get_object(Bucket=one, Key="a b#%?ü.mp3")["Body"].read() == b"x" * 1000
    client.close()


def test_started_by_hand_it_stops_and_keeps_its_data(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    for round_ in range(2):
        variables = by_hand("start", folder)
        pids = json.loads((folder / "store.json").read_text())["pids"]
        try:
            assert len(pids) == 4
            assert all(map(alive, pids))
            client = boto3.client(
                "s3",
                endpoint_url=variables["AWS_ENDPOINT_URL"],
                aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
                region_name=variables["AWS_REGION"],
            )
            if round_ == 0:
                client.create_bucket(Bucket="music")
                client.put_object(Bucket="music", Key="a", Body=b"kept")
            else:
                assert client.get_object(Bucket="music", Key="a")["Body"].read() == b"kept"
            client.close()
        finally:
            by_hand("stop", folder)
        assert all_end(pids)


def test_a_failed_start_shows_the_log_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swift, "_PROXY_CONF", swift._PROXY_CONF.replace("egg:swift#tempauth", "egg:swift#nonsense"))
    with pytest.raises(ObjectStoreError, match=r"ended at once: proxy[\s\S]*nonsense"):
        swift.start(tmp_path)
    pids = json.loads((tmp_path / "store.json").read_text())["pids"]
    assert len(pids) == 4
    assert all_end(pids, seconds=1)


def test_it_does_not_outlive_a_killed_test_run(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.support.object_store import running\n"
        "with running(Path(sys.argv[1])): print('up', flush=True); time.sleep(120)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "up\n"
        pids = json.loads((tmp_path / "store.json").read_text())["pids"]
        assert all(map(alive, pids))
        os.kill(user.pid, signal.SIGKILL)
    assert all_end(pids)
