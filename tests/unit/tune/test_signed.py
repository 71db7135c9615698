"""The state of a search: what somebody else wrote is not unpickled."""

from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import pyarrow.fs as fs
import pytest

from cluster.storage.uri import Uri
from mgc.errors import ConfigError, StorageError
from tune import signed
from tune.signed import SignedFiles, search_key

KEY = "a key of thirty-two characters, or more"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(signed.KEY_VARIABLE, raising=False)
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: tmp_path / "home" / name)
    signed._own_key.cache_clear()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A search that was copied up as Tune does: state, a trial's state and a checkpoint."""
    here, root = tmp_path / "staged", tmp_path / "searches" / "0123"
    for name, data in FILES.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(data)
    fs.copy_files(str(here), str(root), destination_filesystem=filesystem(root))
    return root


FILES = {
    "tuner.pkl": pickle.dumps("tuner"),
    "experiment_state-1.json": b'{"a": 1}',
    "trial/error.pkl": pickle.dumps("error"),
    "trial/checkpoint_000001/course.json": b"{}",
    "trial/checkpoint_000001/best.safetensors": b"weights",
    "trial/progress.csv": b"epoch\n1\n",
}
STATE = [name for name in FILES if name.endswith(".pkl") or "state" in name]


def filesystem(root: Path) -> fs.PyFileSystem:
    return fs.PyFileSystem(SignedFiles(Uri.of_path(root)))


def read(root: Path, name: str) -> bytes:
    data: bytes = filesystem(root).open_input_file(f"{root}/{name}").readall()
    return data


def test_what_was_signed_is_read_as_it_was(root: Path, tmp_path: Path) -> None:
    assert {name: read(root, name) for name in FILES} == FILES
    fs.copy_files(str(root), str(tmp_path / "down"), source_filesystem=filesystem(root))
    assert {name: (tmp_path / "down" / name).read_bytes() for name in FILES} == FILES
    changed = {name for name, data in FILES.items() if (root / name).read_bytes() != data}
    assert changed == set(STATE)


@pytest.mark.parametrize("name", STATE)
def test_what_somebody_else_wrote_is_refused(root: Path, name: str) -> None:
    sound = (root / name).read_bytes()
    # Without a signature, changed, cut off, and signed as another file.
    other = (root / next(each for each in STATE if each != name)).read_bytes()
    for forged in (FILES[name], b"x" + sound, sound[:-1], b"", other):
        (root / name).write_bytes(forged)
        with pytest.raises(StorageError, match=rf"{name}: this state of a search is not signed with this user's key"):
            read(root, name)


def test_a_copy_whose_state_cannot_be_written_fails(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("no room")

    monkeypatch.setattr(SignedFiles, "write", fail)
    with pytest.raises(StorageError, match="no room"):
        fs.copy_files(str(tmp_path / "staged"), str(root), destination_filesystem=filesystem(root))


def test_all_threads_find_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        for _ in range(20):
            signed._own_key.cache_clear()
            shutil.rmtree(tmp_path / "home", ignore_errors=True)
            keys = {key.result() for key in [threads.submit(search_key) for _ in range(16)]}
            assert len(keys) == 1


def test_another_key_signs_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signed.KEY_VARIABLE, KEY)
    with pytest.raises(StorageError, match="not signed"):
        read(root, "tuner.pkl")


def test_a_search_continues_elsewhere_with_the_key(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signed.KEY_VARIABLE, KEY)
    SignedFiles(Uri.of_path(root)).write(f"{root}/tuner.pkl", b"new")
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: Path("/nowhere"))
    assert read(root, "tuner.pkl") == b"new"
    monkeypatch.setenv(signed.KEY_VARIABLE, "short")
    with pytest.raises(ConfigError, match=r"MGC_SEARCH_KEY has 5 characters"):
        search_key()


def test_the_key_is_the_users_alone(tmp_path: Path) -> None:
    key = search_key()
    file = tmp_path / "home" / "mgc" / "search.key"
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (key, 0o600)
    assert b"search.key" not in pickle.dumps(filesystem(tmp_path))
    assert key not in pickle.dumps(filesystem(tmp_path))
    signed._own_key.cache_clear()
    assert search_key() == key
    signed._own_key.cache_clear()
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=r"search\.key: this key is not the user's alone"):
        search_key()


def test_without_a_home_directory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(platformdirs, "user_data_path", lambda name: Path("/proc/none"))
    assert search_key() == search_key()
    assert capsys.readouterr().err.count("MGC_SEARCH_KEY") == 1


def test_no_file_outside_of_the_search(root: Path) -> None:
    with pytest.raises(StorageError, match="not a file of the search"):
        SignedFiles(Uri.of_path(root)).write(f"{root.parent}/x.pkl", b"")
    with pytest.raises(StorageError, match="outside of this folder"):
        SignedFiles(Uri.of_path(root)).write(f"{root}/../x.pkl", b"")
