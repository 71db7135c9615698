"""URIs → recordings, row by row: the first stage of every job that hears music. Of a long MP3 only stretches are read.

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
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import obstore
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import Field
from pydantic.dataclasses import dataclass

from cluster.listing import content_tag, etag
from cluster.storage import explain, is_remote, local_path, s3_client, s3_ranges, split_s3
from cluster.storage_errors import BAD_CREDENTIALS, error_code, one_line, redact
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import SMALL_BYTES, Recording, record
from mgc.audio.source import ByteRange, OpenFile, Source
from mgc.configuration import STRICT
from mgc.errors import AudioError, ErrorKind, StorageError

_DENIED: Final = frozenset({"AccessDenied", "Forbidden", "403"})
_GONE: Final = frozenset({"NoSuchKey", "NotFound", "404"})

FIRST_BYTES: Final = 1 << 16
"""What is read first of an object that may not have to be read whole."""

COALESCED_BYTES: Final = 1 << 16
"""Ranges nearer to each other are one request."""


@dataclass(frozen=True, config=STRICT)
class FetchConfig:
    """How tracks are fetched.

    Attributes:
        uri_column: the column with the URIs.
        tag_column: the column with the content tags; an empty tag is not compared.
        threads: requests at a time in one process.
        size_column: the column with the sizes, if there is one: small files are then read in one request.
        id_column: the column with the tracks' ids.
        max_bytes: a file of which more must be held in memory is a row error, `too_large`.
        tries: how often to read a body that breaks off. Requests themselves are tried anew by botocore.
    """

    uri_column: str = "uri"
    tag_column: str = "content_tag"
    size_column: str = "size_bytes"
    id_column: str = "track_id"
    threads: int = Field(default=16, ge=1, le=256)
    max_bytes: int = Field(default=2 * 1024**3, ge=1)
    tries: int = Field(default=3, ge=1, le=10)


class _Outcome(NamedTuple):
    """What became of one row: its bytes, or a message; `doubt` if the fault may be the whole job's."""

    recording: Recording | None
    message: str | None = None
    doubt: Exception | None = None
    kind: ErrorKind = ErrorKind.FETCH_FAILED


class Fetch:
    """A stage: fetches of what the URIs of a batch name as much as a plan hears.

    Adds `recording` (object: a file's bytes, cuts of it, or None), `error_kind` (object: `fetch_failed`, `too_large`,
    or None) and `error_message` (object: one line, or None). Picklable; each process makes its own S3 client on first
    use.
    """

    def __init__(self, config: FetchConfig | None = None, plan: ListeningPlan | None = None) -> None:
        """Set up.

        Args:
            config: how to fetch.
            plan: which seconds will be heard; None reads every file whole.
        """
        self.config = config or FetchConfig()
        self.plan = plan
        # Buckets that have given this process an object: their denials are about single objects.
        self._readable: set[str] = set()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fetch a batch.

        Raises:
            StorageError: nothing can be fetched with the present settings.
        """
        uris = [str(uri) for uri in batch[self.config.uri_column]]
        tags = ["" if tag is None else str(tag) for tag in batch[self.config.tag_column]]
        ids = [str(track) for track in batch.get(self.config.id_column, [""] * len(uris))]
        sizes = [None if size is None else int(size) for size in batch.get(self.config.size_column, [None] * len(uris))]
        with ThreadPoolExecutor(self.config.threads, thread_name_prefix="fetch") as pool:
            tasks = [pool.submit(self._fetch, *row) for row in zip(uris, tags, ids, sizes, strict=True)]
            try:
                outcomes = [task.result() for task in tasks]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        self._readable.update(
            split_s3(uri)[0]
            for uri, outcome in zip(uris, outcomes, strict=True)
            if outcome.recording is not None and is_remote(uri)
        )
        self._settle_doubts(uris, outcomes)
        return {
            **batch,
            "recording": _objects([outcome.recording for outcome in outcomes]),
            "error_kind": _objects([None if each.recording is not None else each.kind.value for each in outcomes]),
            "error_message": _objects([outcome.message for outcome in outcomes]),
        }

    def _fetch(self, uri: str, tag: str, track_id: str, size_bytes: int | None) -> _Outcome:
        try:
            if is_remote(uri):
                return self._fetch_s3(uri, tag, track_id, size_bytes)
            return self._fetch_local(uri, tag, track_id)
        except AudioError as error:
            return _Outcome(None, str(error), kind=error.kind)

    def _record(self, source: Source, track_id: str) -> _Outcome:
        bounded = _Bounded(source, self.config.max_bytes)
        if self.plan is not None:
            return _Outcome(record(bounded, self.plan, track_id))
        return _Outcome(bounded.read([ByteRange(0, source.size_bytes)])[0])

    def _fetch_local(self, uri: str, tag: str, track_id: str) -> _Outcome:
        try:
            with explain(uri, "read"), open(local_path(uri), "rb", opener=_open_at_once) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return _Outcome(None, "it is not a file")
                refusal = _refusal(content_tag(status), tag)
                if refusal:
                    return _Outcome(None, refusal)
                return self._record(OpenFile(file.fileno(), status.st_size), track_id)
        except StorageError as error:
            return _Outcome(None, str(error))

    def _fetch_s3(self, uri: str, tag: str, track_id: str, size_bytes: int | None) -> _Outcome:
        try:
            bucket, key = split_s3(uri)
        except StorageError as error:
            return _Outcome(None, str(error))
        client = s3_client(uri)
        partly = self.plan is not None and size_bytes is not None and size_bytes > SMALL_BYTES
        first: dict[str, str] = {"Range": f"bytes=0-{FIRST_BYTES - 1}"} if partly else {}
        for attempt in range(1, self.config.tries + 1):
            try:
                answer = client.get_object(Bucket=bucket, Key=key, **first)
            except ClientError as error:
                return self._judge(uri, error)
            except BotoCoreError as error:
                return _Outcome(None, _words(error), doubt=error)
            try:
                with contextlib.closing(answer["Body"]) as body:
                    found_tag = etag(answer["ETag"])
                    refusal = _refusal(found_tag, tag)
                    if refusal:
                        return _Outcome(None, refusal)
                    size_bytes = _whole_size(answer)
                    if not partly and size_bytes > self.config.max_bytes:
                        raise _too_large(size_bytes, self.config.max_bytes)
                    begin = body.read()
                return self._record(_S3Object(uri, key, size_bytes, found_tag, begin), track_id)
            except obstore.exceptions.BaseError as error:
                if attempt == self.config.tries:
                    return _Outcome(None, _words(error))
                time.sleep(random.uniform(0.1, 0.5 * 2**attempt))
            except BotoCoreError as error:
                if attempt == self.config.tries:
                    return _Outcome(None, _words(error), doubt=error)
                time.sleep(random.uniform(0.1, 0.5 * 2**attempt))
        raise AssertionError("tries is at least one")

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


class _Bounded:
    """A source of which no more than so much is read at once."""

    def __init__(self, source: Source, max_bytes: int) -> None:
        self._source, self._max_bytes = source, max_bytes

    @property
    def size_bytes(self) -> int:
        return self._source.size_bytes

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        wanted = sum(piece.size_bytes for piece in ranges)
        if wanted > self._max_bytes:
            raise _too_large(wanted, self._max_bytes)
        return self._source.read(ranges)


class _S3Object:
    """An object of which the first bytes are here already; the others are read by ranges, many at once.

    obstore does that with a sixth of boto3's processor time (BENCHMARKS.md, ranged reads).
    """

    def __init__(self, uri: str, key: str, size_bytes: int, tag: str, begin: bytes) -> None:
        self.size_bytes = size_bytes
        self._uri, self._key, self._tag, self._begin = uri, key, tag, begin

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range."""
        here = len(self._begin)
        ends = [min(stop, self.size_bytes) for _, stop in ranges]
        missing = [
            (max(start, here), end) for (start, _), end in zip(ranges, ends, strict=True) if end > max(start, here)
        ]
        fetched: list[Any] = []
        if missing:
            starts, stops = zip(*missing, strict=True)
            store = s3_ranges(self._uri)
            fetched = list(obstore.get_ranges(store, self._key, starts=starts, ends=stops, coalesce=COALESCED_BYTES))
            # Ranges of two contents make no track; what is still the same afterwards was so in between.
            if etag(obstore.head(store, self._key)["e_tag"] or "") != self._tag:
                raise AudioError(ErrorKind.FETCH_FAILED, "it was replaced while it was read; make the catalog anew")
        return [
            # One copy: join takes obstore's buffers as they are.
            b"".join((self._begin[start:end], fetched.pop(0) if end > max(start, here) else b""))
            for (start, _), end in zip(ranges, ends, strict=True)
        ]


def _refusal(found_tag: str, tag: str) -> str | None:
    if tag and found_tag != tag:
        return f"it was replaced since the catalog was made (tag {found_tag}, catalog {tag}); make the catalog anew"
    return None


def _too_large(size_bytes: int, max_bytes: int) -> AudioError:
    return AudioError(ErrorKind.TOO_LARGE, f"{size_bytes} bytes are more than max_bytes ({max_bytes})")


def _whole_size(answer: dict[str, Any]) -> int:
    """Size of the object of which this is the answer, or its beginning."""
    content_range: str = answer.get("ContentRange", "")
    return int(content_range.rpartition("/")[2]) if content_range else int(answer["ContentLength"])


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
