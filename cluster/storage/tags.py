"""Read the tags of many files at a time, a few KiB of each, wherever they are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final, NamedTuple, Self

from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError

from cluster.storage.failures import explain
from cluster.storage.fetch import judge, open_file, settle_doubts
from cluster.storage.s3_object import S3Object, reserve_nothing
from cluster.storage.uri import Uri
from mgc.errors import AudioError, StorageError
from mgc.tags.reader import BLOCK_BYTES
from mgc.tags.tags import Tags, read_tags

READS_AT_ONCE: Final = 32
"""Files whose tags are read at a time. A file in a bucket costs one to three requests, one after the other."""


class TaggedFile(NamedTuple):
    """A file as a listing describes it.

    Attributes:
        uri: the file.
        tag: its content tag; an empty one is not compared.
        size_bytes: its size.
    """

    uri: str
    tag: str
    size_bytes: int


class TagReader:
    """Reads the tags of files, `READS_AT_ONCE` at a time."""

    def __init__(self) -> None:
        self._files = ThreadPoolExecutor(READS_AT_ONCE, "mgc-tags")
        # A file that waits for its ranges must not hold a thread that they need.
        self._ranges = ThreadPoolExecutor(READS_AT_ONCE, "mgc-tag-ranges")
        self._readable: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.shutdown(cancel_futures=True)
        self._ranges.shutdown(cancel_futures=True)

    def read(self, files: Sequence[TaggedFile]) -> list[Tags]:
        """Return the tags of each file. A file that cannot be read has no fields and a fault.

        Raises:
            StorageError: no file of a bucket can be read with the present settings.
        """
        found = list(self._files.map(self._read, files))
        self._readable.update(
            Uri.parse(file.uri).bucket
            for file, (tags, _) in zip(files, found, strict=True)
            if tags.read_bytes and file.uri.startswith("s3://")
        )
        doubts = ((file.uri, doubt) for file, (_, doubt) in zip(files, found, strict=True) if doubt is not None)
        settle_doubts(doubts, self._readable)
        return [tags for tags, _ in found]

    def _read(self, file: TaggedFile) -> tuple[Tags, Exception | None]:
        """Return the tags of a file, and an error that may concern the whole bucket."""
        try:
            uri = Uri.parse(file.uri)
            if uri.is_remote:
                return self._read_s3(uri, file), None
            with explain(uri, "read"), closing(open_file(uri.path, file.tag)) as opened:
                return read_tags(opened), None
        except (AudioError, StorageError) as error:
            return Tags(fault=str(error)), None
        except (BaseError, BotoCoreError, ClientError, FileNotFoundError) as error:
            message, doubt = judge(error)
            return Tags(fault=message), doubt

    def _read_s3(self, uri: Uri, file: TaggedFile) -> Tags:
        source = S3Object(
            uri,
            file.tag,
            file.size_bytes,
            True,
            self._ranges,
            reserve_nothing,
            first_bytes=BLOCK_BYTES,
            coalesced_bytes=BLOCK_BYTES,
        )
        return read_tags(source)
