"""Read and parse the files of a bundle from any pyarrow filesystem. Every error names the bundle and the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from pyarrow import fs
from pydantic import JsonValue

from mgc.configuration import JsonObject
from mgc.credentials import without_credentials
from mgc.errors import BundleError, ConfigError, shorten
from mgc.shipped_bundle import ShippedBundle

DEFAULT: Final = ShippedBundle.DEFAULT.value
"""Name of the bundle that is shipped with mgc."""

WEIGHTS: Final = "model.safetensors"
TAXONOMY: Final = "taxonomy.json"
NORMALIZATION: Final = "normalization.json"
CALIBRATION: Final = "calibration.json"
METRICS: Final = "metrics.json"
EXPERIMENT: Final = "experiment.json"
FILES: Final = (WEIGHTS, TAXONOMY, NORMALIZATION, CALIBRATION, METRICS, EXPERIMENT)
"""Files of every bundle, in writing order: experiment.json comes last, so a bundle that has it is complete."""

TRAINED_ON: Final = "trained_on.safetensors"
TAGS: Final = "tags.json"
OPTIONAL: Final = (TAGS, TRAINED_ON)
"""Files that are written before these if a bundle has them. They and the calibration may be missing."""

WAY_OUT: Final = "Copy it again, or train it again."

Parsed = TypeVar("Parsed")


class BundleFiles:
    """A reader of one bundle's files.

    Args:
        uri: local directory, URI that pyarrow can open, or "default".
        filesystem: filesystem in which `uri` is a path, or None.

    Attributes:
        where: name of the bundle for messages, without credentials.

    Raises:
        BundleError: there is no such directory, or it cannot be opened.
    """

    def __init__(self, uri: str | Path, filesystem: fs.FileSystem | None = None) -> None:
        self.where = f"bundle {without_credentials(str(uri))}"
        try:
            if filesystem is not None:
                path = str(uri)
            elif "://" in str(uri):
                filesystem, path = fs.FileSystem.from_uri(str(uri))
            else:
                directory = ShippedBundle.DEFAULT.directory if str(uri) == DEFAULT else Path(uri)
                filesystem, path = fs.LocalFileSystem(), str(directory.expanduser().absolute())
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
            BundleError: the file cannot be read.
        """
        try:
            with self._filesystem.open_input_stream(f"{self._path}/{name}") as stream:
                data: bytes = stream.read()
        except FileNotFoundError:
            return None
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
