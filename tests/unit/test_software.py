"""What tells one mgc from another."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import cluster
import mgc
from mgc.software import Software, hash_code

ROOT = Path(mgc.__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1\n")
    (package / "room" / "b.py").write_text("b = 1\n")
    return package


def test_the_hash_is_of_names_and_contents(folder: Path, tmp_path: Path) -> None:
    before = hash_code([folder])
    assert len(before) == 12
    elsewhere = shutil.copytree(folder, tmp_path / "elsewhere" / "package")
    (elsewhere / "__pycache__").mkdir()
    (elsewhere / "__pycache__" / "b.pyc").write_bytes(b"x")
    assert hash_code([elsewhere]) == before
    (folder / "room" / "b.py").write_text("b = 2\n")
    changed = hash_code([folder])
    (folder / "room" / "b.py").rename(folder / "room" / "c.py")
    assert len({before, changed, hash_code([folder])}) == 3


def test_code_that_is_not_in_files_has_no_hash(tmp_path: Path) -> None:
    assert hash_code([]) == hash_code([tmp_path]) == ""


def test_this_process_runs_the_code_of_both_packages() -> None:
    here = Software.here()
    assert here.mgc == mgc.__version__
    assert here.code == hash_code([Path(package.__path__[0]) for package in (cluster, mgc)])
    assert dict(here.versions)["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert {"numpy", "pyarrow", "ray", "torch"} <= dict(here.versions).keys()
    # copy takes the way of pickle, as it travels to a worker.
    assert copy.copy(here) == here


def test_another_process_finds_the_same_without_heavy_imports() -> None:
    look = "import sys; from mgc.software import Software; print(Software.here()); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(Software.here()), "False"]


def test_the_first_difference_is_named() -> None:
    here = Software("0.1.0", "aaaa", (("numpy", "2.4.6"), ("ray", "2.60.0")))
    assert here.difference(here) is None
    older = replace(here, mgc="0.0.9", code="bbbb")
    assert here.difference(older) == ("mgc", "0.1.0", "0.0.9")
    assert here.difference(replace(here, code="bbbb")) == ("code", "aaaa", "bbbb")
    assert here.difference(replace(here, versions=(("numpy", "2.4.5"),))) == ("numpy", "2.4.6", "2.4.5")
    # The driver of a light installation.
    assert here.difference(replace(here, versions=here.versions[:1])) is None
    assert replace(here, versions=()).difference(here) == ("numpy", "missing", "2.4.6")


def test_a_build_for_other_hardware_is_no_other_version() -> None:
    assert all("+" not in version for _, version in Software.here().versions)
