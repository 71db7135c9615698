"""Files of a search that only their signer can have written, because Ray Tune unpickles its state, which runs code.

Whoever may write into a search's folder could else run code as the person who continues the search. So each file of
Tune's state ends in a signature (HMAC-SHA256) of its path below the search and its bytes. The key lies with the user,
never in the folder. Checkpoints hold safetensors and JSON, which run nothing, and are as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import platformdirs
import pyarrow as pa
import pyarrow.fs as fs

from cluster.storage import files
from cluster.storage.notice import notice
from cluster.storage.uri import Uri
from mgc.errors import ConfigError, StorageError

KEY_VARIABLE: Final = "MGC_SEARCH_KEY"
"""Variable with the key, for a search that another machine may have to continue."""

_FEWEST_CHARACTERS: Final = 32
_MARK: Final = b"\nsigned by mgc: "
_SIGNATURE_BYTES: Final = len(_MARK) + 2 * hashlib.sha256().digest_size
_CHECKPOINT: Final = "checkpoint_"
"""Beginning of the names of Ray's folders of checkpoints."""


def search_key() -> bytes:
    """Return the user's key: that of the environment, or else that of a file which only the user can read.

    Raises:
        ConfigError: the key is too short, or others can read or write its file.
    """
    text = os.environ.get(KEY_VARIABLE)
    if text is None:
        return _own_key(os.getuid())
    if len(text) < _FEWEST_CHARACTERS:
        raise ConfigError(f"{KEY_VARIABLE} has {len(text)} characters; it needs at least {_FEWEST_CHARACTERS}.")
    return text.encode()


@cache
def _own_key(user: int) -> bytes:
    try:
        path = platformdirs.user_data_path("mgc") / "search.key"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # Of several threads and processes at once one is first, and nobody sees half a key.
            with tempfile.NamedTemporaryFile(dir=path.parent) as file, contextlib.suppress(FileExistsError):
                file.write(secrets.token_hex(_FEWEST_CHARACTERS).encode())
                file.flush()
                os.link(file.name, path)
        found, key = path.stat(), path.read_bytes()
    except (OSError, RuntimeError):
        notice(f"no folder for the key of searches: a killed search cannot continue unless {KEY_VARIABLE} is set.")
        return secrets.token_bytes(_FEWEST_CHARACTERS)
    if found.st_uid != user or stat.S_IMODE(found.st_mode) & 0o077 or len(key) < _FEWEST_CHARACTERS:
        raise ConfigError(f"{path}: this key is not the user's alone; delete it, and the searches that it signed.")
    return key


@dataclass(frozen=True)
class SignedFiles(fs.FileSystemHandler):
    """A filesystem for Ray Tune that signs Tune's state when it is written, and checks the signature when it is read.

    It can be pickled, and holds no key: only processes of the user can sign.

    Attributes:
        root: folder of the search.
    """

    root: Uri

    @property
    def _below(self) -> fs.FileSystem:
        return self.root.filesystem

    def _place(self, path: str) -> Uri:
        """Return the place of a file of the search."""
        if not path.startswith(f"{self.root.path}/"):
            raise StorageError(f"{path} is not a file of the search {self.root}.")
        return self.root / path.removeprefix(self.root.path)

    def _is_signed(self, path: str) -> bool:
        parts = path.removeprefix(self.root.path).split("/")
        in_checkpoint = any(part.startswith(_CHECKPOINT) for part in parts[:-1])
        return path.endswith(".pkl") or (path.endswith(".json") and not in_checkpoint)

    def _signature(self, place: Uri, data: bytes) -> bytes:
        name = place.path.removeprefix(self.root.path).encode()
        return _MARK + hmac.new(search_key(), name + b"\0" + data, hashlib.sha256).hexdigest().encode()

    def write(self, path: str, data: bytes) -> None:
        """Write a whole file, signed if it is one of Tune's state."""
        place = self._place(path)
        files.write_bytes(place, data + self._signature(place, data) if self._is_signed(path) else data)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file; of Tune's state, only what this user has signed.

        Raises:
            StorageError: somebody else, or another key, has signed the file, or nobody.
        """
        if not self._is_signed(path):
            return self._below.open_input_file(path)
        place = self._place(path)
        found = self._below.open_input_file(path).readall()
        data, signature = found[:-_SIGNATURE_BYTES], found[-_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(place, data)):
            raise StorageError(
                f"{place}: this state of a search is not signed with this user's key, and whoever wrote it could run "
                f"code here. Continue it as the user who began it (or with that {KEY_VARIABLE}), or delete {self.root}."
            )
        return pa.BufferReader(data)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """See `open_input_file`."""
        return self.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Mapping[str, str] | None) -> pa.NativeFile:
        """Open a file. One of Tune's state is written as a whole."""
        if not self._is_signed(path):
            return self._below.open_output_stream(path, metadata=metadata)
        return pa.PythonFile(_Pending(self, path), mode="w")

    def open_append_stream(self, path: str, metadata: Mapping[str, str] | None) -> pa.NativeFile:
        """Refuse: Tune replaces whole files."""
        raise NotImplementedError(f"{path}: files of a search are not appended to")

    def get_type_name(self) -> str:
        """Return a name for messages."""
        return "signed"

    def normalize_path(self, path: str) -> str:
        """Return the path as the filesystem below writes it."""
        return str(self._below.normalize_path(path))

    def get_file_info(self, paths: Sequence[str]) -> list[fs.FileInfo]:
        """Return what is known of some files."""
        return list(self._below.get_file_info(paths))

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        """Return what is known of the files of a folder.

        Raises:
            StorageError: a name in it leads out of the search.
        """
        found = list(self._below.get_file_info(selector))
        for info in found:
            if ".." in info.path.split("/"):
                raise StorageError(f"{self.root}: a copy of {info.path} would lie outside of its folder; delete it.")
        return found

    def create_dir(self, path: str, recursive: bool) -> None:
        """Make a folder."""
        self._below.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        """Delete a folder."""
        self._below.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        """Delete what is in a folder."""
        self._below.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        """Refuse: no search is the whole disk."""
        raise NotImplementedError("the root of a search is not emptied")

    def delete_file(self, path: str) -> None:
        """Delete a file."""
        self._below.delete_file(path)

    def move(self, src: str, dest: str) -> None:
        """Move a file. One of Tune's state would lose its signature, which covers its name."""
        self._below.move(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        """Copy a file. See `move`."""
        self._below.copy_file(src, dest)


class _Pending:
    """The file object of a file under way. It is no `io.IOBase`, which would write half a file when it is deleted.

    `pyarrow.fs.copy_files` hears of an error of `write`, not of one of `close`. So each piece writes the whole file.
    Tune's state is small; most of its files are one piece.
    """

    def __init__(self, target: SignedFiles, path: str) -> None:
        self._target, self._path = target, path
        self._data = bytearray()
        self._unwritten = True
        self.closed = False

    def write(self, data: bytes) -> int:
        self._data += data
        self._target.write(self._path, bytes(self._data))
        self._unwritten = False
        return len(data)

    def flush(self) -> None:
        """Do nothing: what there is has been written."""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            if self._unwritten:
                self._target.write(self._path, b"")
