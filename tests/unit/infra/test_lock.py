"""requirements.lock: how it is read, and what `--check` refuses. No registry is asked."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from infra import lock

DIGEST = "ab" * 32

PACKAGE = f"alpha==1.0 \\\n    --hash=sha256:{DIGEST} \\\n    --hash=sha256:{DIGEST[::-1]}\n"


def test_it_is_read_with_hashes_and_with_what_only_tests_need() -> None:
    text = lock.HEAD + PACKAGE + lock.DEV + f"beta==2.0rc1 \\\n    --hash=sha256:{DIGEST}\ngamma==3\n"
    assert lock.read(text) == [
        lock.Pin("alpha", "1.0", (DIGEST, DIGEST[::-1]), dev=False),
        lock.Pin("beta", "2.0rc1", (DIGEST,), dev=True),
        lock.Pin("gamma", "3", (), dev=True),
    ]


@pytest.mark.parametrize("line", ["alpha>=1.0", "--extra-index-url somewhere", f"alpha==1.0 --hash=md5:{DIGEST}"])
def test_a_line_that_pins_nothing_is_refused(line: str) -> None:
    with pytest.raises(lock.LockError, match=r"is not a package"):
        lock.read(f"{lock.HEAD}{line}\n")


def test_the_lock_of_this_repository_is_what_is_needed() -> None:
    pins = lock.read(lock.LOCK.read_text())
    assert {pin.name: pin.version for pin in pins if not pin.dev} == lock.pins(lock.RUN_EXTRA)
    assert {pin.name: pin.version for pin in pins} == lock.pins(lock.DEV_EXTRA)
    assert all(len(each) == 64 for pin in pins for each in pin.hashes)
    needs = lock.needs(lock.RUN_EXTRA)
    assert "torchaudio" in needs[lock.PROJECT]
    assert "botocore" in needs["boto3"]


@pytest.mark.parametrize(
    ("text", "wanted", "said"),
    [
        (PACKAGE, {"alpha": "1.0"}, None),
        (PACKAGE, {"alpha": "1.1"}, r"lacks alpha 1\.1, and has alpha 1\.0 in excess"),
        (PACKAGE, {"alpha": "1.0", "beta": "2"}, r"lacks beta 2, and has nothing in excess"),
        (PACKAGE + "beta==2\n", {"alpha": "1.0", "beta": "2"}, r"beta 2 has no hash"),
        (PACKAGE.replace("1.0", "1.0 ; python_version < '3'"), {}, None),
    ],
)
def test_check(
    text: str, wanted: dict[str, str], said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "requirements.lock"
    file.write_text(lock.HEAD + text)
    monkeypatch.setattr(lock, "LOCK", file)
    monkeypatch.setattr(lock, "pins", lambda extra: wanted)
    with contextlib.nullcontext() if said is None else pytest.raises(lock.LockError, match=said):
        lock.check()


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "asked", lambda extra: [lock.Requirement("no-such-package>=1")])
    with pytest.raises(lock.LockError, match=r"pyproject\.toml needs no-such-package>=1, which is not installed"):
        lock.pins(lock.RUN_EXTRA)


def test_a_version_that_was_not_asked_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "asked", lambda extra: [lock.Requirement("numpy<1")])
    with pytest.raises(lock.LockError, match=r"needs numpy<1, and \d"):
        lock.pins(lock.RUN_EXTRA)
