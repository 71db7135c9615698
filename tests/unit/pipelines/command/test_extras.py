"""What a light installation, without extras, does and says."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipelines.cli import JOBS
from pipelines.command import extras

ROOT = Path(__file__).parents[4]

WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({extras.PACKAGES['tune']!r})); "
"""Hides what extras bring, as if it were not installed."""


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", WITHOUT + code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_every_job_loads_and_the_shipped_bundle_labels() -> None:
    modules = [f"pipelines.{word.replace('-', '_')}" for word in JOBS]
    done = run(
        f"import importlib; [importlib.import_module(name) for name in {modules!r}]; "
        "import numpy as np; from mgc.bundle import load_bundle; from mgc.bundle_names import BundleName; "
        "from mgc.features.kaldi_mel import KaldiMel, KaldiMelConfig; KaldiMel(KaldiMelConfig()); "
        "time = np.arange(22_050 * 30) / 22_050; music = np.sin(440 * time * (1 + time)).astype(np.float32); "
        "print(load_bundle(BundleName.SHIPPED).label(music, sample_rate_hz=22_050).genre_top)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize(("job", "extra"), [("evaluate", "train"), ("tune", "tune")])
def test_a_job_without_its_extra_says_what_to_install(job: str, extra: str) -> None:
    given = {"evaluate": "['evaluate', '--bundle', 'shipped', '--features', '.', '--out', 'out']"}
    arguments = given.get(job, "['tune', '--features', '.', '--out', 'out']")
    done = run(f"sys.argv = ['mgc', *{arguments}]; from pipelines.cli import main; main()")
    assert done.returncode == 2, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert f"pip install 'mgc[{extra}]'" in summary["error"]
    assert "torchaudio" in summary["error"]


def test_extras_bring_what_the_jobs_look_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    train = {Requirement(line).name for line in optional["train"]}
    brought = {"train": train, "tune": train | {Requirement(line).name for line in optional["tune"]}}
    names = packages_distributions()
    always = {Requirement(line).name for line in project["dependencies"]}
    for extra, packages in extras.PACKAGES.items():
        assert {names[package][0] for package in packages} == brought[extra] - always - {"mgc"}
    assert set(extras.JOBS) - {"compare-balance"} <= JOBS.keys()
