"""URIs → recordings, row by row: the first stage of every job that hears music. Of a long MP3 only stretches are read.

A track that cannot be fetched is a row with its reason, never the end of the job. A job whose settings are wrong (no or
refused credentials, a bucket that does not exist, a store that does not answer) ends at once: else a whole catalog
would go into quarantine for it.

Every answer of the store says by its ETag whose bytes it holds, and each is compared with the catalog's tag: a track
replaced at any moment is a row with a reason, never a mixture, and never bytes under a tag that is not theirs.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError
from pydantic import Field
from pydantic.dataclasses import dataclass

from cluster.storage.boto_types import ObjectHead
from cluster.storage.failures import error_code, explain
from cluster.storage.listing import content_tag, etag
from cluster.storage.redaction import one_line, redact
from cluster.storage.s3 import ATTEMPTS, s3_client, s3_ranges
from cluster.storage.uri import is_remote, local_path, split_s3
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
"""A store that asks for patience: its settings are right."""

FIRST_BYTES: Final = 1 << 16
"""What is read first of an object that may not have to be read whole."""

COALESCED_BYTES: Final = 1 << 16
"""Ranges nearer to each other are one request."""

PIECE_BYTES: Final = 1 << 24
"""Most of one request: a large object whose reading breaks off is not read from its beginning again."""


@dataclass(frozen=True, config=STRICT)
class FetchConfig:
    """How tracks are fetched. How often a request is tried, and for how long, is a matter of `cluster.storage`.

    Attributes:
        uri_column: the column with the URIs.
        tag_column: the column with the content tags; an empty tag is not compared.
        threads: tracks at a time in one process, and ranges of them.
        size_column: the column with the sizes, if there is one: small files are then read in one request.
        id_column: the column with the tracks' ids.
        max_bytes: a file of which more must be held in memory is a row error, `too_large`.
    """

    uri_column: str = "uri"
    tag_column: str = "content_tag"
    size_column: str = "size_bytes"
    id_column: str = "track_id"
    threads: int = Field(default=16, ge=1, le=256)
    max_bytes: int = Field(default=2 * 1024**3, ge=1)


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
        threads = self.config.threads
        # Two pools: a track that waits for its ranges must not hold the thread that one of them needs.
        with ThreadPoolExecutor(threads, "ranges") as ranges, ThreadPoolExecutor(threads, "fetch") as pool:
            rows = zip(uris, tags, ids, sizes, strict=True)
            tasks = [pool.submit(self._fetch, *row, ranges) for row in rows]
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

    def _fetch(self, uri: str, tag: str, track_id: str, size_bytes: int | None, ranges: ThreadPoolExecutor) -> _Outcome:
        try:
            if is_remote(uri):
                return self._fetch_s3(uri, tag, track_id, size_bytes, ranges)
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

    def _fetch_s3(
        self, uri: str, tag: str, track_id: str, size_bytes: int | None, ranges: ThreadPoolExecutor
    ) -> _Outcome:
        try:
            split_s3(uri)
        except StorageError as error:
            return _Outcome(None, str(error))
        partly = self.plan is not None and size_bytes is not None and size_bytes > SMALL_BYTES
        try:
            return self._record(_S3Object(uri, tag, size_bytes, partly, ranges), track_id)
        except (BaseError, BotoCoreError, ClientError, FileNotFoundError) as error:
            return _judge(error)

    def _settle_doubts(self, uris: list[str], outcomes: list[_Outcome]) -> None:
        """Ask the bucket whether a denial, or silence, or a failure of the store, is about one object or everything.

        A store answers AccessDenied for a missing object too, if the credentials may not list the bucket.
        """
        settled: set[str] = set()
        for uri, outcome in zip(uris, outcomes, strict=True):
            if outcome.doubt is None or (bucket := split_s3(uri)[0]) in settled:
                continue
            settled.add(bucket)
            if error_code(outcome.doubt) in _DENIED and bucket in self._readable:
                continue
            with explain(uri, "fetch"):
                try:
                    s3_client(uri).list_objects_v2(Bucket=bucket, MaxKeys=1)
                except ClientError as error:
                    if error_code(error) not in _BUSY:
                        raise


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
    """An object of which the first bytes are read at once; the others are read by ranges, many at a time.

    obstore reads with a fraction of boto3's processor time (BENCHMARKS.md, ranged reads), tries a request again while
    there is hope, and goes on where a body broke off (if the ETag is still the same). A few keys it cannot spell:
    these are boto3's.
    """

    def __init__(
        self, uri: str, tag: str, expected_bytes: int | None, partly: bool, threads: ThreadPoolExecutor
    ) -> None:
        """Read the beginning, or all of a small object.

        Args:
            uri: of the object.
            tag: the content tag that it must have; "" takes that of the first answer.
            expected_bytes: its size by the catalog.
            partly: whether all of it may not be needed.
            threads: for ranges.

        Raises:
            AudioError: the object has another tag.
        """
        self._uri = uri
        self._bucket, self._key = split_s3(uri)
        self._tag, self._threads = tag, threads
        self._plain = _PLAIN_KEY.fullmatch(self._key) is not None
        self.size_bytes = -1
        # An empty object has no first byte that could be asked for, so small ones are asked for as a whole.
        most = FIRST_BYTES if partly else PIECE_BYTES
        self._begin = bytes(self._get(ByteRange(0, most) if (expected_bytes or 0) > most else None))

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """The bytes of each range."""
        here = len(self._begin)
        wanted = [(max(start, here), min(stop, self.size_bytes)) for start, stop in ranges]
        spans = _spans([ByteRange(start, stop) for start, stop in wanted if start < stop])
        parts = self._threads.map(self._get, spans) if len(spans) > 1 else map(self._get, spans)
        held: list[tuple[int, bytes | memoryview]] = [(0, self._begin)]
        held += [(span.start, memoryview(part)) for span, part in zip(spans, parts, strict=True)]
        return [
            # One copy at most: of a single bytes object, join and slice give the object itself.
            b"".join(
                [data[max(start - at, 0) : stop - at] for at, data in held if at < stop and start < at + len(data)]
            )
            for start, stop in ranges
        ]

    def _get(self, piece: ByteRange | None) -> Any:
        """A range, or the whole object if it is no larger than a piece, else nothing; a buffer."""
        data = self._get_by_obstore(piece) if self._plain else self._get_by_boto3(piece)
        if piece is not None and len(data) != min(piece.stop, self.size_bytes) - piece.start:
            raise AudioError(ErrorKind.FETCH_FAILED, f"the store gave {len(data)} of {piece.size_bytes} bytes")
        return data

    def _get_by_obstore(self, piece: ByteRange | None) -> Any:
        answer = obstore.get(s3_ranges(self._uri), self._key, options={} if piece is None else {"range": piece})
        self._recognise(answer.meta["e_tag"], answer.meta["size"])
        return b"" if piece is None and self.size_bytes > PIECE_BYTES else answer.bytes()

    def _get_by_boto3(self, piece: ByteRange | None) -> bytes:
        span = {} if piece is None else {"Range": f"bytes={piece.start}-{piece.stop - 1}"}
        for left in reversed(range(ATTEMPTS)):
            answer = s3_client(self._uri).get_object(Bucket=self._bucket, Key=self._key, **span)
            with contextlib.closing(answer["Body"]) as body:
                self._recognise(answer.get("ETag"), _whole_size(answer))
                try:
                    data: bytes = b"" if piece is None and self.size_bytes > PIECE_BYTES else body.read()
                except BotoCoreError:
                    # botocore tries requests again, but not a body that breaks off.
                    if not left:
                        raise
                    time.sleep(random.uniform(0.1, 2.0))
                else:
                    return data
        raise AssertionError("the last try returns or raises")

    def _recognise(self, found_etag: str | None, size_bytes: int) -> None:
        """Whether an answer is of the object that is meant; its body has not been read yet."""
        found = etag(found_etag or "")
        refusal = _refusal(found, self._tag)
        if self.size_bytes >= 0 and (refusal or size_bytes != self.size_bytes):
            refusal = "it was replaced while it was read; make the catalog anew"
        if refusal:
            raise AudioError(ErrorKind.FETCH_FAILED, refusal)
        self._tag, self.size_bytes = found, size_bytes


_PLAIN_KEY: Final = re.compile(r"(?:(?!\.{1,2}(?:/|$))[^/\x00-\x1f\x7f]+(?:/(?!$)|$))+")
"""Keys that obstore reads as they are; it refuses others (`a//b`), or reads another object (of `/a` that of `a`)."""


def _spans(pieces: list[ByteRange]) -> list[ByteRange]:
    """What to ask for: near pieces as one, none too large, in order."""
    joined: list[ByteRange] = []
    for piece in sorted(pieces):
        if joined and piece.start - joined[-1].stop <= COALESCED_BYTES:
            joined[-1] = ByteRange(joined[-1].start, max(joined[-1].stop, piece.stop))
        else:
            joined.append(piece)
    return [
        ByteRange(start, min(start + PIECE_BYTES, whole.stop))
        for whole in joined
        for start in range(whole.start, whole.stop, PIECE_BYTES)
    ]


def _judge(error: Exception) -> _Outcome:
    """What an S3 error means for its row; whether it may be everyone's is to be asked of the bucket."""
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
"""Where obstore's text says how a connection failed: Connect, Interrupted, Timeout."""


def _refusal(found_tag: str, tag: str) -> str | None:
    if tag and found_tag != tag:
        return f"it was replaced since the catalog was made (catalog {tag}, now {found_tag}); make the catalog anew"
    return None


def _too_large(size_bytes: int, max_bytes: int) -> AudioError:
    return AudioError(ErrorKind.TOO_LARGE, f"{size_bytes} bytes are more than max_bytes ({max_bytes})")


def _whole_size(answer: ObjectHead) -> int:
    """Size of the object of which this is the answer, or its beginning."""
    content_range: str = answer.get("ContentRange", "")
    return int(content_range.rpartition("/")[2]) if content_range else int(answer["ContentLength"])


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting: a pipe under an audio file's name would wait for a writer for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _objects(values: list[Any]) -> np.ndarray:
    """An object array, also where all values are bytes of one length, of which NumPy would make an array of its own."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
