"""Names of bundles: what each stands for, and that tests do not see what a developer has pulled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgc.bundle import load_bundle
from mgc.bundle_files import BundleFiles
from mgc.bundle_names import BundleName, cache_folder
from mgc.errors import BundleError
from tests.unit.small_bundle import bundle


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for bundles."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mgc" / "bundles"


def test_the_default_is_the_best_that_is_there(cache: Path) -> None:
    assert BundleName.DEFAULT.resolved is BundleName.SHIPPED
    ids = {}
    for number, name in enumerate(("mn10", "musicnn", "mn04")):
        ids[name] = bundle(training=bundle().training).save(cache / name)
        assert BundleName.DEFAULT.resolved == ("shipped", "musicnn", "mn04")[number]
    assert load_bundle().id == load_bundle("mn04").id == ids["mn04"]
    assert load_bundle("shipped").id != ids["mn04"]


def test_a_bundle_that_is_not_whole_is_not_there(cache: Path) -> None:
    bundle().save(cache / "mn04")
    (cache / "mn04" / "experiment.json").unlink()
    assert not BundleName.MN04.is_there
    assert BundleName.DEFAULT.resolved is BundleName.SHIPPED


def test_a_bundle_that_is_not_pulled_is_refused_with_the_command(cache: Path) -> None:
    with pytest.raises(BundleError, match="`mgc pull mn02`"):
        load_bundle("mn02")


def test_a_folder_that_is_named_like_a_model(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = bundle().save("mn04")
    assert load_bundle("./mn04").id == load_bundle(Path("mn04")).id == made
    with pytest.raises(BundleError, match=r"write \./mn04"):
        load_bundle("mn04")


def test_messages_say_which_bundle_the_default_is(cache: Path) -> None:
    assert BundleFiles("default").where == "bundle shipped"
    bundle().save(cache / "musicnn")
    assert BundleFiles("default").where == "bundle musicnn"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody without a home")
def test_without_a_home_there_is_the_shipped_bundle() -> None:
    program = (
        "import os; from mgc.bundle_names import BundleName as B; B.MN04.directory; os.setuid(54321);"
        "print(B.DEFAULT.resolved, B.MN04.directory, B.MN04.is_there)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "HOME"))}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["shipped", "None", "False"]


def test_a_home_that_nobody_can_read_has_no_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nohome")
    assert not BundleName.MN04.is_there
    assert BundleName.DEFAULT.resolved is BundleName.SHIPPED


def test_tests_see_no_pulled_bundles_but_other_caches() -> None:
    cache = cache_folder()
    assert cache is not None
    # The folder may hold graphs that a test has written, but is not that of the user.
    assert not (cache / "bundles").exists()
    assert not cache.is_symlink()
    assert not any(name.is_there for name in BundleName if name.is_public)
