from __future__ import annotations

import copy

import pytest
from ray.exceptions import RayTaskError

from mgc import errors
from mgc.errors import AudioError, ConfigError, ErrorKind, MgcError, StorageError, cause, said

CHILDREN = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MgcError)]


@pytest.mark.parametrize("kind", [kind for kind in CHILDREN if kind is not AudioError])
def test_a_message_is_one_line(kind: type[MgcError]) -> None:
    assert str(kind("odd\nname.mp3: first\r\nsecond\u2028third")) == "odd name.mp3: first second third"


@pytest.mark.parametrize("kind", CHILDREN)
def test_every_error_is_of_one_tree_and_says_what_it_is_for(kind: type[MgcError]) -> None:
    assert issubclass(kind, MgcError)
    assert kind.__doc__


def test_an_audio_error_keeps_kind_and_offset_between_processes() -> None:
    error = AudioError(ErrorKind.TRUNCATED, "cut\nhere", 4096)
    # copy takes the way of pickle: __reduce__.
    again = copy.copy(error)
    assert again is not error
    assert (str(again), again.kind, again.offset_bytes) == ("cut here", ErrorKind.TRUNCATED, 4096)


def test_an_audio_error_says_its_kind_once() -> None:
    """Whatever prints it writes the kind before its text."""
    error = AudioError(ErrorKind.TRUNCATED, "truncated: the file ends inside the frame at byte 4")
    assert str(error) == "the file ends inside the frame at byte 4"


def test_what_a_busy_store_or_machine_may_cause_is_worth_another_try() -> None:
    passing = {ErrorKind.FETCH_FAILED, ErrorKind.TIMEOUT, ErrorKind.DECODER_CRASH}
    assert {kind for kind in ErrorKind if not kind.permanent} == passing


@pytest.mark.parametrize("error", [StorageError("s3://b: no room."), AudioError(ErrorKind.TRUNCATED, "cut", 7)])
def test_what_others_append_is_not_part_of_a_message(error: MgcError) -> None:
    """Ray Data appends advice on retries to the first argument of what a worker raises."""
    said_before = str(error)
    error.args = (f"{error.args[0]}\nFailed to apply UDF after 1/1 attempts.", *error.args[1:])
    assert str(error) == str(copy.copy(error)) == cause(error) == said_before


def test_our_line_is_found_in_what_ray_raises() -> None:
    ours = ConfigError("training.epochs: much too many.")
    wrapped = RayTaskError("work", "Traceback (most recent call last):\n  ...\n", ours).as_instanceof_cause()
    assert isinstance(wrapped, ConfigError)
    assert "\n" in str(wrapped)
    assert cause(wrapped) == said(wrapped) == str(ours)
    # Ray Tune keeps some as text only.
    assert said(RuntimeError(f"Traceback:\n  ...\nmgc.errors.ConfigError: {ours}\n")) == str(ours)
    assert cause(RuntimeError("no room")) is None
    assert said(RuntimeError("one\n  no room\n")) == "RuntimeError: no room"
