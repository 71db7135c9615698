"""Read, parse and write the files of a bundle. Every error names the bundle, and the file where one is at fault.

They are safetensors and JSON, never pickle:

- `model.safetensors`: weights
- `experiment.json`: the Experiment, the bundle's id and the front end's
- `taxonomy.json`: genres in the order of the logits, or of the answers if there are tags
- `tags.json`: what the network's outputs mean and which of them speak for which genre; only if they are not genres
- `sounds.json`: sounds that the network names besides its genres, and which of them are music; only if it names any
- `normalization.json`: for each bin, a number to subtract and a number to divide by
- `calibration.json`: adjustment of the logits to balanced priors, null if there is none; older bundles lack it
- `metrics.json`: scores, training history, facts about the data
- `trained_on.safetensors`: hashes of the tracks and artists trained on; older bundles lack it
- `report.html`: evaluation report, if there is one; never read back
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from pyarrow import fs
from pydantic import JsonValue

from mgc.bundle_names import LAST_FILE, BundleName
from mgc.configuration import JsonObject
from mgc.credentials import without_credentials
from mgc.errors import BundleError, ConfigError, StorageError, shorten
from mgc.units import GIB, format_bytes

DEFAULT: Final = BundleName.DEFAULT.value
"""Name of the best bundle that is there."""

WEIGHTS: Final = "model.safetensors"
TAXONOMY: Final = "taxonomy.json"
NORMALIZATION: Final = "normalization.json"
CALIBRATION: Final = "calibration.json"
METRICS: Final = "metrics.json"
EXPERIMENT: Final = LAST_FILE
FILES: Final = (WEIGHTS, TAXONOMY, NORMALIZATION, CALIBRATION, METRICS, EXPERIMENT)
"""Files of every bundle, in writing order: experiment.json comes last, so a bundle that has it is complete."""

TRAINED_ON: Final = "trained_on.safetensors"
TAGS: Final = "tags.json"
SOUNDS: Final = "sounds.json"
OPTIONAL: Final = (TAGS, SOUNDS, TRAINED_ON)
"""Files that are written before these if a bundle has them. They and the calibration may be missing."""

_MOST_BYTES: Final = {".json": 32 << 20, ".safetensors": 4 * GIB}
"""Size of the largest file of a kind. Python takes some ten bytes of memory for one of JSON."""

WAY_OUT: Final = "Copy it again, or train it again."

Parsed = TypeVar("Parsed")


class BundleFiles:
    """A reader of one bundle's files.

    Args:
        uri: name of a bundle (`mgc.bundle_names`), local directory, or URI that pyarrow can open.
        filesystem: filesystem in which `uri` is a path, or None.

    Attributes:
        where: name of the bundle for messages, without credentials.

    Raises:
        BundleError: there is no such directory, it cannot be opened, or the bundle of that name is not pulled yet.
    """

    def __init__(self, uri: str | Path, filesystem: fs.FileSystem | None = None) -> None:
        # A path is never a name, and neither is a text with a slash.
        name = BundleName.of(uri) if isinstance(uri, str) and filesystem is None else None
        if name is not None:
            uri = _find(name)
        self.where = f"bundle {without_credentials(str(uri)) if name is None else name.resolved}"
        try:
            if filesystem is not None:
                path = str(uri)
            elif "://" in str(uri):
                filesystem, path = fs.FileSystem.from_uri(str(uri))
            else:
                filesystem, path = fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
            self._filesystem, self._path = filesystem, path.rstrip("/")
            found = filesystem.get_file_info(self._path).type
        except (OSError, ValueError, RuntimeError) as error:
            raise BundleError(f"{self.where} cannot be opened: {shorten(error)}; check the path.") from None
        if found != fs.FileType.Directory:
            what = "there is no such directory" if found == fs.FileType.NotFound else "this is a file"
            raise BundleError(f"{self.where}: {what}. A bundle is a directory written by `mgc train --out BUNDLE`.")

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            BundleError: the file is missing or cannot be read.
        """
        data = self.read_if_there(name)
        if data is None:
            raise BundleError(f"{self.where}: {name} is missing. {WAY_OUT}")
        return data

    def read_if_there(self, name: str) -> bytes | None:
        """Return the bytes of a file, or None if there is no such file.

        Raises:
            BundleError: the file cannot be read, is none (a pipe or a device would never end), or is too large.
        """
        path = f"{self._path}/{name}"
        try:
            info = self._filesystem.get_file_info(path)
            if info.type == fs.FileType.NotFound:
                return None
            most = _MOST_BYTES[Path(name).suffix]
            if info.type != fs.FileType.File or info.size is None:
                raise BundleError(f"{self.where}: {name} is no file. {WAY_OUT}")
            if info.size > most:
                size = f"{format_bytes(info.size)}, {format_bytes(most)} are the most"
                raise BundleError(f"{self.where}: {name} is too large ({size}). {WAY_OUT}")
            with self._filesystem.open_input_stream(path) as stream:
                data: bytes = stream.read(info.size)
        except OSError as error:
            raise BundleError(f"{self.where}: {name} cannot be read: {shorten(error)}. {WAY_OUT}") from None
        return data

    def parse_object(self, data: bytes, name: str) -> JsonObject:
        """Return the JSON object that a file holds.

        Raises:
            BundleError: the file holds something else.
        """
        value = self._parse(data, name)
        if not isinstance(value, dict):
            raise BundleError(f"{self.where}: {name} holds no JSON object. {WAY_OUT}")
        return value

    def parse_list(self, data: bytes, name: str) -> list[JsonValue]:
        """Return the JSON list that a file holds.

        Raises:
            BundleError: the file holds something else.
        """
        value = self._parse(data, name)
        if not isinstance(value, list):
            raise BundleError(f"{self.where}: {name} holds no JSON list. {WAY_OUT}")
        return value

    def _parse(self, data: bytes, name: str) -> JsonValue:
        try:
            value: JsonValue = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{self.where}: {name} is not JSON ({shorten(error)}). {WAY_OUT}") from None
        return value

    def make(self, make: Callable[[], Parsed], name: str) -> Parsed:
        """Return what `make` builds from the file `name`.

        Raises:
            BundleError: the content of the file cannot be used; the message names the bundle and the file.
        """
        try:
            return make()
        except BundleError as error:
            raise BundleError(f"{self.where}: {str(error).removeprefix('bundle: ')}") from None
        except (ConfigError, ValueError) as error:
            raise BundleError(f"{self.where}: {name} is corrupt: {shorten(error)}. {WAY_OUT}") from None


def write_files(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files of a bundle into a local folder, and delete those that the bundle lacks.

    Args:
        directory: the folder.
        contents: contents of the files, by their names.

    Raises:
        StorageError: the folder cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in (*OPTIONAL, *FILES):
            if name in contents:
                (directory / name).write_bytes(contents[name])
            else:
                (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"bundle {directory} cannot be written: {error.strerror or error}; choose another folder."
        ) from None


def _find(name: BundleName) -> Path:
    """Return the folder of a bundle that has a name.

    Raises:
        BundleError: it is not pulled yet.
    """
    directory = name.directory
    if directory is None or not name.is_there:
        raise BundleError(
            f"bundle {name}: it is not pulled on this machine; `mgc pull {name}` fetches it. For a folder of that name "
            f"write ./{name}."
        )
    return directory
