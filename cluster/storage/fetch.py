"""Fetch recordings by their URIs: the first stage of every job that listens. It reads only some windows of a long MP3.

A track that cannot be fetched becomes a row with a reason and never ends the job. A job with wrong settings (missing or
refused credentials, a missing bucket, a silent store) ends at once, so that it does not quarantine a whole catalog.

The bytes of a row always belong to its content tag. If a track is replaced, even while it is read, its row holds a
reason, never a mixture of both files.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError
from pydantic import Field
from pydantic.dataclasses import dataclass

from cluster.storage import s3
from cluster.storage.failures import error_code, explain
from cluster.storage.listing import content_tag
from cluster.storage.redaction import one_line, redact
from cluster.storage.s3_object import S3Object, tag_refusal
from cluster.storage.uri import Uri
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import SMALL_BYTES, Recording, record
from mgc.audio.source import ByteRange, OpenFile, Source
from mgc.configuration import STRICT
from mgc.errors import AudioError, ErrorKind, StorageError

_DENIED: Final = frozenset({"AccessDenied", "Forbidden", "403"})
_GONE: Final = frozenset({"NoSuchKey", "NotFound", "404"})
_BUSY: Final = frozenset(
    {
        *(
            "SlowDown",
            "SlowDownRead",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "TooManyRequestsException",
        ),
        *("RequestLimitExceeded", "BandwidthLimitExceeded", "429"),
    }
)
"""Codes of a store that is busy; the settings are right."""


@dataclass(frozen=True, config=STRICT)
class FetchConfig:
    """Settings for fetching tracks. `cluster.storage.s3` sets how often, and for how long, to try a request.

    Attributes:
        uri_column: the column with the URIs.
        tag_column: the column with the content tags; an empty tag is not compared.
        size_column: the column with the sizes in bytes, if there is one; small files then take one request.
        id_column: the column with the ids of the tracks.
        threads: the number of tracks, and of their ranges, to fetch at a time in one process.
        max_bytes: the most bytes of a file to hold in memory; a file that needs more is a row error, `too_large`.
    """

    uri_column: str = "uri"
    tag_column: str = "content_tag"
    size_column: str = "size_bytes"
    id_column: str = "track_id"
    threads: int = Field(default=16, ge=1, le=256)
    max_bytes: int = Field(default=2 * 1024**3, ge=1)


class _Outcome(NamedTuple):
    """The outcome of one row: its bytes, or a message. `doubt` is an error that may concern the whole job."""

    recording: Recording | None
    message: str | None = None
    doubt: Exception | None = None
    kind: ErrorKind = ErrorKind.FETCH_FAILED


class Fetch:
    """A stage that fetches the parts of a batch's files that a plan listens to.

    Adds `recording` (object: the bytes of a file, cuts of it, or None), `error_kind` (object: `fetch_failed`,
    `too_large`, or None) and `error_message` (object: one line, or None). Picklable; each process makes its own
    connection to S3 on first use.
    """

    def __init__(self, config: FetchConfig | None = None, plan: ListeningPlan | None = None) -> None:
        """Set up.

        Args:
            config: how to fetch.
            plan: the seconds to listen to; None reads every file completely.
        """
        self.config = config or FetchConfig()
        self.plan = plan
        # Buckets from which this process has read an object. If they deny access, the denial concerns a single object.
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
        threads = self.config.threads
        # Use two pools, because a track that waits for its ranges must not hold a thread that they need.
        with ThreadPoolExecutor(threads, "ranges") as ranges, ThreadPoolExecutor(threads, "fetch") as pool:
            rows = zip(uris, tags, ids, sizes, strict=True)
            tasks = [pool.submit(self._fetch, *row, ranges) for row in rows]
            try:
                outcomes = [task.result() for task in tasks]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        self._readable.update(
            Uri.parse(uri).bucket for uri, outcome in zip(uris, outcomes, strict=True) if outcome.recording is not None
        )
        self._settle_doubts(uris, outcomes)
        return {
            **batch,
            "recording": _objects([outcome.recording for outcome in outcomes]),
            "error_kind": _objects([None if each.recording is not None else each.kind.value for each in outcomes]),
            "error_message": _objects([outcome.message for outcome in outcomes]),
        }

    def _fetch(
        self, text: str, tag: str, track_id: str, size_bytes: int | None, ranges: ThreadPoolExecutor
    ) -> _Outcome:
        try:
            uri = Uri.parse(text)
        except StorageError as error:
            return _Outcome(None, str(error))
        try:
            if uri.is_remote:
                return self._fetch_s3(uri, tag, track_id, size_bytes, ranges)
            return self._fetch_local(uri, tag, track_id)
        except AudioError as error:
            return _Outcome(None, str(error), kind=error.kind)

    def _record(self, source: Source, track_id: str) -> _Outcome:
        bounded = _Bounded(source, self.config.max_bytes)
        if self.plan is not None:
            return _Outcome(record(bounded, self.plan, track_id))
        return _Outcome(bounded.read([ByteRange(0, source.size_bytes)])[0])

    def _fetch_local(self, uri: Uri, tag: str, track_id: str) -> _Outcome:
        try:
            with explain(uri, "read"), open(uri.path, "rb", opener=_open_at_once) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    return _Outcome(None, "it is not a file")
                refusal = tag_refusal(content_tag(status), tag)
                if refusal:
                    return _Outcome(None, refusal)
                return self._record(OpenFile(file.fileno(), status.st_size), track_id)
        except StorageError as error:
            return _Outcome(None, str(error))

    def _fetch_s3(
        self, uri: Uri, tag: str, track_id: str, size_bytes: int | None, ranges: ThreadPoolExecutor
    ) -> _Outcome:
        partly = self.plan is not None and size_bytes is not None and size_bytes > SMALL_BYTES
        try:
            return self._record(S3Object(uri, tag, size_bytes, partly, ranges), track_id)
        except (BaseError, BotoCoreError, ClientError, FileNotFoundError) as error:
            return _judge(error)

    def _settle_doubts(self, uris: list[str], outcomes: list[_Outcome]) -> None:
        """Ask the bucket whether a denial, silence or failure of the store concerns one object or all.

        A store also answers AccessDenied for a missing object if the credentials may not list the bucket.

        Raises:
            StorageError: it concerns all.
        """
        settled: set[str] = set()
        for text, outcome in zip(uris, outcomes, strict=True):
            if outcome.doubt is None:
                continue
            uri = Uri.parse(text)
            bucket = uri.bucket
            if bucket in settled:
                continue
            settled.add(bucket)
            if error_code(outcome.doubt) in _DENIED and bucket in self._readable:
                continue
            with explain(uri, "fetch"):
                try:
                    s3.client(uri).list_objects_v2(Bucket=bucket, MaxKeys=1)
                except ClientError as error:
                    if error_code(error) not in _BUSY:
                        raise


class _Bounded:
    """A source from which at most `max_bytes` are read at once."""

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


def _judge(error: Exception) -> _Outcome:
    """Return what an S3 error means for its row, and whether it may concern the whole bucket."""
    code = error_code(error)
    if code in _GONE:
        return _Outcome(None, f"it is not there any more ({code})")
    if code == "InvalidRange":
        return _Outcome(None, "it is shorter than the catalog says (InvalidRange); make the catalog anew")
    if code:
        words = f"the store answers {code}"
    elif isinstance(error, BaseError) and (kind := _OBSTORE_KIND.search(str(error))):
        words = f"no whole answer from the store ({kind[1]})"
    else:
        words = redact(one_line(str(error)))[:300]
    return _Outcome(None, words, doubt=None if code in _BUSY or code == "InvalidObjectState" else error)


_OBSTORE_KIND: Final = re.compile(r"HttpError \{\s*kind: (\w+)")
"""The word in obstore's text that says how a connection failed: Connect, Interrupted, Timeout."""


def _too_large(size_bytes: int, max_bytes: int) -> AudioError:
    return AudioError(ErrorKind.TOO_LARGE, f"{size_bytes} bytes are more than max_bytes ({max_bytes})")


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a pipe under the name of an audio file would wait for a writer forever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _objects(values: Sequence[object]) -> np.ndarray:
    """Return an object array. By default, NumPy turns bytes of equal length into an array of bytes."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
