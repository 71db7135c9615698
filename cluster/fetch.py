"""URIs → bytes, row by row: the first stage of every job that hears music.

A track that cannot be fetched is a row with its reason, never the end of the job. A job whose settings are wrong (no or
refused credentials, a bucket that does not exist, a store that does not answer) ends at once: else a whole catalog
would go into quarantine for it.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import Field
from pydantic.dataclasses import dataclass

from cluster.listing import content_tag, etag
from cluster.storage import explain, is_remote, local_path, s3_client, split_s3
from cluster.storage_errors import BAD_CREDENTIALS, error_code, one_line, redact
from mgc.configuration import STRICT
from mgc.errors import ErrorKind, StorageError

_DENIED: Final = frozenset({"AccessDenied", "Forbidden", "403"})
_GONE: Final = frozenset({"NoSuchKey", "NotFound", "404"})


@dataclass(frozen=True, config=STRICT)
class FetchConfig:
    """How tracks are fetched.

    Attributes:
        uri_column: the column with the URIs.
        tag_column: the column with the content tags; an empty tag is not compared.
        threads: requests at a time in one process.
        max_bytes: a larger file is a row error. A batch is held in memory whole: rows × `max_bytes` at worst.
        tries: how often to read a body that breaks off. Requests themselves are tried anew by botocore.
    """

    uri_column: str = "uri"
    tag_column: str = "content_tag"
    threads: int = Field(default=16, ge=1, le=256)
    max_bytes: int = Field(default=2 * 1024**3, ge=1)
    tries: int = Field(default=3, ge=1, le=10)


class _Outcome(NamedTuple):
    """What became of one row: its bytes, or a message; `doubt` if the fault may be the whole job's."""

    data: bytes | None
    message: str | None = None
    doubt: Exception | None = None


class Fetch:
    """A stage: fetches what the URIs of a batch name.

    Adds `bytes` (object: bytes, or None), `error_kind` (object: `fetch_failed`, or None) and `error_message` (object:
    one line, or None). Picklable; each process makes its own S3 client on first use.
    """

    def __init__(self, config: FetchConfig | None = None) -> None:
        self.config = config or FetchConfig()
        # Buckets that have given this process an object: their denials are about single objects.
        self._readable: set[str] = set()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fetch a batch.

        Raises:
            StorageError: nothing can be fetched with the present settings.
        """
        uris = [str(uri) for uri in batch[self.config.uri_column]]
        tags = ["" if tag is None else str(tag) for tag in batch[self.config.tag_column]]
        with ThreadPoolExecutor(self.config.threads, thread_name_prefix="fetch") as pool:
            tasks = [pool.submit(self._fetch, uri, tag) for uri, tag in zip(uris, tags, strict=True)]
            try:
                outcomes = [task.result() for task in tasks]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        self._readable.update(
            split_s3(uri)[0]
            for uri, outcome in zip(uris, outcomes, strict=True)
            if outcome.data is not None and is_remote(uri)
        )
        self._settle_doubts(uris, outcomes)
        failed = ErrorKind.FETCH_FAILED.value
        return {
            **batch,
            "bytes": _objects([outcome.data for outcome in outcomes]),
            "error_kind": _objects([None if outcome.data is not None else failed for outcome in outcomes]),
            "error_message": _objects([outcome.message for outcome in outcomes]),
        }

    def _fetch(self, uri: str, tag: str) -> _Outcome:
        return self._fetch_s3(uri, tag) if is_remote(uri) else self._fetch_local(uri, tag)

    def _fetch_local(self, uri: str, tag: str) -> _Outcome:
        try:
            with explain(uri, "read"), open(local_path(uri), "rb", opener=_open_at_once) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return _Outcome(None, "it is not a file")
                refusal = self._refusal(status.st_size, content_tag(status), tag)
                return _Outcome(None, refusal) if refusal else _Outcome(file.read())
        except StorageError as error:
            return _Outcome(None, str(error))

    def _fetch_s3(self, uri: str, tag: str) -> _Outcome:
        try:
            bucket, key = split_s3(uri)
        except StorageError as error:
            return _Outcome(None, str(error))
        client = s3_client(uri)
        for attempt in range(1, self.config.tries + 1):
            try:
                answer = client.get_object(Bucket=bucket, Key=key)
            except ClientError as error:
                return self._judge(uri, error)
            except BotoCoreError as error:
                return _Outcome(None, _words(error), doubt=error)
            try:
                with contextlib.closing(answer["Body"]) as body:
                    refusal = self._refusal(answer["ContentLength"], etag(answer["ETag"]), tag)
                    return _Outcome(None, refusal) if refusal else _Outcome(body.read())
            except BotoCoreError as error:
                if attempt == self.config.tries:
                    return _Outcome(None, _words(error), doubt=error)
                time.sleep(random.uniform(0.1, 0.5 * 2**attempt))
        raise AssertionError("tries is at least one")

    def _refusal(self, size_bytes: int, found_tag: str, tag: str) -> str | None:
        if tag and found_tag != tag:
            return f"it was replaced since the catalog was made (tag {found_tag}, catalog {tag}); make the catalog anew"
        if size_bytes > self.config.max_bytes:
            return f"{size_bytes} bytes are more than max_bytes ({self.config.max_bytes})"
        return None

    def _judge(self, uri: str, error: ClientError) -> _Outcome:
        code = error_code(error)
        if code in BAD_CREDENTIALS or code == "NoSuchBucket":
            with explain(uri, "fetch"):
                raise error
        if code in _GONE:
            return _Outcome(None, f"it is not there any more ({code})")
        return _Outcome(None, _words(error), doubt=error if code in _DENIED else None)

    def _settle_doubts(self, uris: list[str], outcomes: list[_Outcome]) -> None:
        """Ask the bucket whether a denial, or silence, is about one object or about everything.

        A store answers AccessDenied for a missing object too, if the credentials may not list the bucket.
        """
        settled: set[str] = set()
        for uri, outcome in zip(uris, outcomes, strict=True):
            if outcome.doubt is None or (bucket := split_s3(uri)[0]) in settled:
                continue
            settled.add(bucket)
            if isinstance(outcome.doubt, ClientError) and bucket in self._readable:
                continue
            with explain(uri, "fetch"):
                s3_client(uri).list_objects_v2(Bucket=bucket, MaxKeys=1)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a pipe under an audio file's name would wait for a writer for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _words(error: Exception) -> str:
    return redact(one_line(str(error)))[:300]


def _objects(values: list[Any]) -> np.ndarray:
    """An object array, also where all values are bytes of one length, of which NumPy would make an array of its own."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
