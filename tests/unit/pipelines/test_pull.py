"""`mgc pull`: from a published file, at hand or served on the loopback or by pip, to a bundle that its name opens."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.bundles import install_bundle, open_bundle
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.bundle import load_bundle
from mgc.bundle_names import BundleName
from mgc.errors import StorageError
from mgc.models.mobilenet import MobileNet, MobileNetConfig
from mgc.public_models.bundles import MOBILENET_WIDTHS
from mgc.public_models.catalogue import MODELS
from mgc.public_models.efficientat import CLASSES
from pipelines.command.job import run
from pipelines.models.registry import fetch_wheel
from pipelines.pull import command
from tests.support.web.file_server import FileServer, Serving, running
from tests.unit.small_bundle import bundle


def published(seed: int) -> bytes:
    """A file in the form of the published ones, of the smallest network with weights of our own."""
    torch.manual_seed(seed)
    stream = io.BytesIO()
    model = MobileNet(MobileNetConfig(width=MOBILENET_WIDTHS["mn01"]), CLASSES)
    torch.save(OrderedDict((f"theirs.{name}", tensor) for name, tensor in model.state_dict().items()), stream)
    return stream.getvalue()


FILE, OTHER_FILE = published(0), published(1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no settings of the developer's."""
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("MGC_OFFLINE", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mgc"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mn01.pt"
    path.write_bytes(FILE)
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Of mn01 and of mn04, which has a size and a SHA-256."""
    with running(Serving(FILE)) as server:
        for name in (BundleName.MN01, BundleName.MN04):
            monkeypatch.setitem(MODELS, name, replace(MODELS[name], address=server.address))  # type: ignore[arg-type]
        yield server


def pull(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any], list[str]]:
    """Exit code, summary, and lines on stderr."""
    code = run(command, [str(word) for word in words])
    printed = capsys.readouterr()
    return code, json.loads(printed.out.splitlines()[-1]) if printed.out else {}, printed.err.splitlines()


def test_the_catalogue_has_every_public_name() -> None:
    assert set(MODELS) == {name for name in BundleName if name.is_public} == {*MOBILENET_WIDTHS, "musicnn"}
    for model in MODELS.values():
        assert bool(model.address) != bool(model.requirement)
        assert "Copyright (c)" in model.licence
        assert model.file_name.partition("-")[0] in model.notice


def test_a_file_at_hand(cache: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, summary, lines = pull(capsys, "mn01", "--from", file)
    sha256 = hashlib.sha256(FILE).hexdigest()
    folder = cache / "bundles" / "mn01"
    made = load_bundle("mn01")
    assert (code, summary["status"], summary["outputs"]["bundle_id"]) == (0, "done", made.id)
    assert summary["outputs"]["sha256"] == sha256
    # mgc does not know the file's hash, says so and prints it.
    assert any(sha256 in line and "--sha256" in line for line in lines)
    assert (folder / "LICENSE").read_text().startswith("MIT License\n\nCopyright (c) 2022 Florian Schmid")
    assert "AudioSet" in (folder / "NOTICE").read_text()
    noted = json.loads((folder / "pulled.json").read_text())
    assert (noted["name"], noted["sha256"], noted["size_bytes"]) == ("mn01", sha256, len(FILE))
    assert not list(folder.parent.glob(".*"))


@pytest.mark.parametrize(
    "made", [None, "folder", b"another", b"x" * 4_066_513], ids=["no file", "folder", "size", "hash"]
)
def test_a_file_at_hand_that_is_none(
    made: bytes | str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mn04.pt"
    if isinstance(made, bytes):
        path.write_bytes(made)
    elif made is not None:
        path.mkdir()
    for pinned in ([], ["--sha256", "0" * 64]):
        code, summary, _ = pull(capsys, "mn04", "--from", path, *pinned)
        assert code == 1
        assert str(path) in summary["error"]
        # What to name instead, and what is there to do otherwise.
        assert f"--from takes {MODELS[BundleName.MN04].address}; without it" in summary["error"]
        assert ("--sha256" in summary["error"]) == bool(pinned)


@pytest.mark.parametrize(
    ("name", "said"), [("default", "`mgc pull mn04`"), ("shipped", "part of mgc"), ("mn4", "mn04")]
)
def test_a_name_that_cannot_be_pulled(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, summary, _ = pull(capsys, name)
    assert code == 2
    assert said in summary["error"]


def test_a_download(server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.servings = [Serving(FILE, cut=100_000), Serving(FILE)]
    code, summary, _ = pull(capsys, "mn01")
    assert (code, summary["counts"]["size_bytes"]) == (0, len(FILE))
    assert [asked.range for asked in server.requests] == ["", "bytes=100000-"]
    assert not list((cache / "downloads").iterdir())
    # Again: nothing is fetched.
    assert pull(capsys, "mn01")[1]["status"] == "up_to_date"
    assert len(server.requests) == 2
    # A bundle that this mgc cannot use is pulled anew.
    (cache / "bundles" / "mn01" / "model.safetensors").write_bytes(b"")
    code, summary, lines = pull(capsys, "mn01")
    assert (code, summary["status"]) == (0, "done")
    assert any("cannot be used" in line for line in lines)
    load_bundle("mn01")


def test_a_known_file_is_checked(server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = MODELS[BundleName.MN04]
    assert model.size_bytes is not None
    code, summary, _ = pull(capsys, "mn04")
    assert code == 1
    assert f"{model.size_bytes:,}" in summary["error"]
    server.servings = [Serving(bytes(model.size_bytes))]
    code, summary, _ = pull(capsys, "mn04")
    assert code == 1
    assert str(model.sha256) in summary["error"]
    assert "--from" in summary["error"]
    assert not BundleName.MN04.is_there
    assert not list((cache / "downloads").iterdir())


@pytest.mark.parametrize("fetched", [True, False])
def test_a_pinned_hash(fetched: bool, server: FileServer, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = () if fetched else ("--from", file)
    code, summary, _ = pull(capsys, "mn01", "--sha256", "0" * 64, *words)
    assert code == 1
    assert hashlib.sha256(FILE).hexdigest() in summary["error"]
    code, _, lines = pull(capsys, "mn01", "--sha256", hashlib.sha256(FILE).hexdigest().upper(), *words)
    assert code == 0
    assert not any("does not know" in line for line in lines)
    # The bundle that is there is of another file than the pinned one.
    assert pull(capsys, "mn01", "--sha256", "0" * 64, *words)[0] == 1


def test_another_file_replaces_the_bundle_in_the_cache_alone(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    first = [pull(capsys, "mn01", "--from", file, *words)[1] for words in ((), ("--out", out))]
    assert len({summary["outputs"]["bundle_id"] for summary in first}) == 1
    assert (out / "LICENSE").is_file()
    assert [pull(capsys, "mn01", "--from", file, *words)[1]["status"] for words in ((), ("--out", out))] == [
        "up_to_date"
    ] * 2
    file.write_bytes(OTHER_FILE)
    code, summary, _ = pull(capsys, "mn01", "--from", file, "--out", out)
    assert (code, load_bundle(out).id) == (1, load_bundle("mn01").id)
    assert "--overwrite" in summary["error"]
    _, summary, _ = pull(capsys, "mn01", "--from", file)
    assert load_bundle("mn01").id == summary["outputs"]["bundle_id"] != load_bundle(out).id
    assert pull(capsys, "mn01", "--from", file, "--out", out, "--overwrite")[0] == 0
    assert load_bundle("mn01").id == load_bundle(out).id
    assert json.loads((out / "pulled.json").read_text())["sha256"] == hashlib.sha256(OTHER_FILE).hexdigest()


@pytest.mark.cluster
def test_a_bucket(bucket_uri: str, server: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    out = Uri.parse(f"{bucket_uri}/models/mn01")
    code, summary, _ = pull(capsys, "mn01", "--out", out)
    assert (code, summary["status"]) == (0, "done")
    assert open_bundle(out).id == summary["outputs"]["bundle_id"]
    assert files.read_bytes(out / "LICENSE").startswith(b"MIT")
    assert not BundleName.MN01.is_there
    assert pull(capsys, "mn01", "--out", out)[1]["status"] == "up_to_date"
    assert len(server.requests) == 1


class Attack:
    """What runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["pickle", "torch", "page", "half", "empty", "other width"])
def test_a_file_that_is_no_such_model(
    kind: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attack, name = Attack(tmp_path / "attacked"), "mn02" if kind == "other width" else "mn01"
    if kind == "torch":
        torch.save({"theirs": attack}, file)
    elif kind != "other width":
        pages = {"pickle": pickle.dumps(attack), "page": b"<html>", "half": FILE[: len(FILE) // 2], "empty": b""}
        file.write_bytes(pages[kind])
    code, summary, _ = pull(capsys, name, "--from", file)
    assert code == 1
    assert str(file) in summary["error"]
    assert "Error" not in summary["error"].partition(":")[0]
    assert not attack.path.exists()
    assert not BundleName(name).is_there


def test_offline_nothing_is_fetched(
    server: FileServer, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MGC_OFFLINE", "1")
    for name in ("mn01", "musicnn"):
        code, summary, lines = pull(capsys, name)
        assert (code, len(lines)) == (1, 1)
        assert "--from" in summary["error"]
    assert pull(capsys, "mn01", "--try", 5)[:2][0] == 0
    assert not server.requests
    assert pull(capsys, "mn01", "--from", file)[0] == 0


def test_a_trial_is_over_in_time_and_no_failure(server: FileServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.servings = [Serving(silent=True)]
    began = time.monotonic()
    code, summary, lines = pull(capsys, "mn01", "--try", 0.5, "--or", "mn04")
    assert (code, summary["status"], len(lines)) == (0, "not_pulled", 1)
    # Both wait 0.6 s together; the rest is for a slow machine.
    assert time.monotonic() - began < 5
    server.servings = [*[Serving(status=404)] * 3, Serving(FILE)]
    assert pull(capsys, "mn04", "--try", 5, "--or", "mn01")[1]["status"] == "done"
    assert not BundleName.MN04.is_there
    assert BundleName.MN01.is_there


def wheel(folder: Path) -> Path:
    """A wheel with the published one's name, and nothing in it."""
    folder.mkdir()
    path = folder / MODELS[BundleName.MUSICNN].file_name
    with zipfile.ZipFile(path, "w") as archive:
        facts = "musicnn-0.1.0.dist-info"
        archive.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: musicnn\nVersion: 0.1.0\n")
        archive.writestr(
            f"{facts}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{facts}/RECORD", "")
    return path


def test_pip_obeys_the_persons_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    code, summary, _ = pull(capsys, "musicnn")
    assert code == 1
    assert "musicnn==0.1.0" in summary["error"]
    assert "--from" in summary["error"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "links").parent))
    code, summary, _ = pull(capsys, "musicnn")
    assert code == 1
    assert "another file" in summary["error"]


def test_a_pip_that_finds_nothing_in_time(tmp_path: Path) -> None:
    hangs = [sys.executable, "-c", "import time; print('Collecting x', flush=True); time.sleep(600)"]
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"within 0\.2 s"):
        fetch_wheel("x==1", tmp_path, 0.2, hangs)
    assert time.monotonic() - began < 60
    slow = "import sys, time; print('  Downloading x', flush=True); time.sleep(1); open(sys.argv[1] + '/x.whl', 'w')"
    assert fetch_wheel("x==1", tmp_path, 0.5 + 10, [sys.executable, "-c", slow, str(tmp_path)]).name == "x.whl"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("/usr/bin/python: No module named pip", "ensurepip"),
        ("ERROR: No matching distribution found for x==1", "No matching distribution"),
        ("WARNING: Retrying (Retry(total=0)) after connection broken\nERROR: Could not find x", "check the network"),
        ("ERROR: https://user:secret@index.invalid fails", "index.invalid"),
        ("", "says nothing more"),
    ],
)
def test_what_pip_says_becomes_one_line(printed: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        fetch_wheel("x==1", tmp_path, None, [sys.executable, "-c", f"print({printed!r}); raise SystemExit(1)"])
    line = str(caught.value)
    assert said in line
    assert "secret" not in line
    assert "\n" not in line


def test_bundles_that_are_installed_at_the_same_time(tmp_path: Path) -> None:
    made, folder = [bundle(), bundle(training=bundle().training, adjustment=None)], tmp_path / "bundles" / "mn04"
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda number: install_bundle(made[number % 2], folder, {"NOTICE": b"n"}), range(16)))
    assert load_bundle(folder).id in ids
    assert (folder / "NOTICE").read_bytes() == b"n"
    assert [path.name for path in folder.parent.iterdir()] == ["mn04"]


def test_a_cache_that_cannot_be_written(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nohome")
    code, summary, _ = pull(capsys, "mn01", "--from", file)
    assert code == 1
    assert "/proc/nohome" in summary["error"]
    assert "--out" in summary["error"]


@pytest.mark.parametrize(
    "words", [("mn03",), ("default",), ("mn01", "--or", "mn02"), ("mn01", "--sha256", "123"), ("mn01", "--try", "0")]
)
def test_a_wrong_command_line(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert pull(capsys, *words)[0] == 2


def test_a_dry_run_fetches_nothing(server: FileServer, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(command, ["mn01", "--dry-run"])
    printed = capsys.readouterr().out
    assert code == 0
    assert server.address in printed
    assert not server.requests
    assert not BundleName.MN01.is_there


def test_a_download_that_breaks_where_there_is_no_cache(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parts then lie in a temporary folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nohome")
    assert pull(capsys, "mn01", "--out", tmp_path / "out")[:2][1]["status"] == "done"
    server.servings = [Serving(status=404)]
    assert "404" in pull(capsys, "mn01", "--out", tmp_path / "another")[1]["error"]


@pytest.mark.parametrize(("name", "setting"), [("mn04", "MGC_TEST_MODELS"), ("musicnn", "MGC_TEST_MUSICNN")])
def test_the_published_file_itself(name: str, setting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = os.environ.get(setting)
    if place is None:
        pytest.skip(f"no published file: set {setting}")
    model = MODELS[BundleName(name)]
    file = Path(place) / model.file_name if Path(place).is_dir() else Path(place)
    code, _, lines = pull(capsys, name, "--from", file)
    assert code == 0
    assert not any("does not know" in line for line in lines)
    assert load_bundle().id == load_bundle(name).id
    part = tmp_path / model.file_name
    part.write_bytes(file.read_bytes()[:-1])
    assert f"{part.stat().st_size:,}" in pull(capsys, name, "--from", part)[1]["error"]
    part.write_bytes(file.read_bytes()[:-1] + b"x")
    assert str(model.sha256) in pull(capsys, name, "--from", part)[1]["error"]
