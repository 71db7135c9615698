"""What `mgc doctor` makes of machines that it is not on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.session import inventory
from cluster.session.inventory import State
from cluster.storage.uri import Uri
from mgc.audio.cell.doors import Door
from mgc.software import Software
from mgc.units import GIB
from pipelines import doctor
from pipelines.command.job import run


def test_memory() -> None:
    assert inventory.check_memory(16 * GIB, 8 * GIB).state is State.WORKS
    short = inventory.check_memory(16 * GIB, 2 * GIB)
    assert short.state is State.FAILS
    assert "3 GiB" in short.advice
    # Much is free, and Ray ends workers all the same.
    assert inventory.check_memory(256 * GIB, 8 * GIB).state is State.FAILS


def test_shared_memory_of_a_container() -> None:
    small = inventory.check_shared_memory(64 * 2**20, 2 * GIB)
    assert small.state is State.FAILS
    assert "--shm-size=2g" in small.advice
    assert inventory.check_shared_memory(4 * GIB, 2 * GIB).state is State.WORKS


def test_a_folder_yet_to_be_is_on_its_parents_disk(tmp_path: Path) -> None:
    assert inventory.check_disk("disk", str(tmp_path / "a" / "b")).value.endswith(str(tmp_path))


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_LEAST_DISK", 2**60)
    assert inventory.check_disk("disk", "/tmp").state is State.FAILS
    monkeypatch.setattr(inventory, "_LEAST_DISK", 0)
    monkeypatch.setattr(inventory, "_FULL", 0.0)
    assert "delete something" in inventory.check_disk("disk", "/tmp").advice


def test_a_gpu_that_torch_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("torch sees a GPU here")
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB, 535.1'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = inventory.compare_gpus()
    assert found.state is State.FAILS
    assert "NVIDIA H100 80GB HBM3, 81559 MiB" in found.value
    assert "driver" in found.advice
    monkeypatch.setenv("PATH", "/nowhere")
    assert inventory.compare_gpus().state is State.LACKS


def test_what_computes_networks_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Software.here()
    assert inventory.find_runtime().value == f"ONNX Runtime {dict(here.versions)['onnxruntime']}"
    lacking = replace(here, versions=tuple(pair for pair in here.versions if pair[0] != "onnxruntime"))
    monkeypatch.setattr(Software, "here", lambda: lacking)
    found = inventory.find_runtime()
    assert (found.state, found.value) == (State.LACKS, "PyTorch")


def test_decoders_hear_what_is_made_for_them() -> None:
    assert inventory.check_decoders().value == "soundfile and pyav decode MP3"


def test_the_decoders_cell_says_what_keeps_it_closed() -> None:
    every = Door(sum(Door))
    assert inventory.describe_doors(every).value == "closed"
    in_docker = inventory.describe_doors(every & ~(Door.USERS | Door.PROCESSES))
    assert in_docker.state is State.WORKS
    assert in_docker.value.endswith("not offered here: a user namespace, a PID namespace")
    open_cell = inventory.describe_doors(every & ~Door.CALLS)
    assert (open_cell.state, open_cell.value) == (State.LACKS, "not closed; not offered here: seccomp")
    assert inventory.check_cell().state in (State.WORKS, State.LACKS)


def test_a_look_that_fails_is_a_finding() -> None:
    def broken() -> list[inventory.Finding]:
        raise OSError("no such\ndevice")

    (found,) = inventory.guard(broken, "disk")
    assert found.state is State.FAILS
    assert found.value == "OSError: no such device"


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in inventory._STORE_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "catalog.parquet").write_bytes(b"")
    there, not_there = inventory.check_places([Uri.of_path(tmp_path), Uri.of_path(tmp_path / "nothing")])
    assert there.state is State.WORKS
    assert not_there.state is State.LACKS


def test_exit_codes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in inventory._STORE_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    small = ["--recipe", "nguyen-prior"]
    # Another program's hunger is not this test's matter.
    monkeypatch.setattr(inventory, "memory_bytes", lambda: (64 * GIB, 32 * GIB))
    assert run(doctor.command, small) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok  profile laptop") for line in lines)
    assert any(line.startswith("--  profile decoders-and-gpus") for line in lines)

    monkeypatch.setattr(inventory, "memory_bytes", lambda: (2 * GIB, GIB // 2))
    assert run(doctor.command, [*small, "--json"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert answer["usable"] is False
    wrong = {found["name"] for found in answer["findings"] if found["state"] == "fails"}
    assert wrong == {"memory", "recipe nguyen-prior"}


def test_what_is_asked_for_must_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert run(doctor.command, ["--recipe", "nguyen-prior", "--workers", "9999", "--profile", "laptop"]) == 3
    printed = capsys.readouterr().out
    assert "!!  profile laptop" in printed
    assert "9,999 training workers" in printed
