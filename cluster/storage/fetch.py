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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Final, NamedTuple

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError
from pydantic import Field
from pydantic.dataclasses import dataclass

from cluster.storage import s3
from cluster.storage.budget import Budget, PostponedError, first_that_fit
from cluster.storage.failures import error_code, explain
from cluster.storage.listing.facts import content_tag
from cluster.storage.redaction import one_line, redact
from cluster.storage.s3_object import S3File, S3Object, reserve_nothing, tag_refusal
from cluster.storage.uri import Uri
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import SMALL_BYTES, Recording, record
from mgc.audio.source import ByteRange, LocalFile, Source
from mgc.configuration import STRICT
from mgc.errors import AudioError, ErrorKind, StorageError
from mgc.units import GIB, format_bytes

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


HELD_AT_ONCE_BYTES: Final = 2 * GIB
"""Most bytes of one file in memory at once. Of a large file that a plan listens to, far fewer are."""

Reserve = Callable[[int], object]
"""Reserves room for a number of bytes, or raises."""


@dataclass(frozen=True, config=STRICT)
class FetchConfig:
    """Settings for fetching tracks. `cluster.storage.s3` sets how often, and for how long, to try a request.

    Attributes:
        uri_column: the column with the URIs.
        tag_column: the column with the content tags; an empty tag is not compared.
        size_column: the column with the sizes in bytes, if there is one; small files then take one request.
        id_column: the column with the ids of the tracks.
        threads: the number of tracks, and of their ranges, to fetch at a time in one process.
        max_bytes: the largest file to listen to, in bytes; a larger one is a row error, `too_large`.
    """

    uri_column: str = "uri"
    tag_column: str = "content_tag"
    size_column: str = "size_bytes"
    id_column: str = "track_id"
    threads: int = Field(default=16, ge=1, le=256)
    max_bytes: int = Field(default=64 * GIB, ge=1)


class _Outcome(NamedTuple):
    """The outcome of one row: its bytes, or a message. `doubt` is an error that may concern the whole job."""

    recording: Recording | None
    message: str | None = None
    doubt: Exception | None = None
    kind: ErrorKind = ErrorKind.FETCH_FAILED


class _Wanted(NamedTuple):
    """A track as the catalog describes it. The size may be wrong."""

    uri: str
    tag: str
    track_id: str
    size_bytes: int | None


class Part(NamedTuple):
    """Some rows of a batch, fetched.

    Attributes:
        rows: their places in the batch.
        batch: their columns, as `Fetch` returns them.
    """

    rows: list[int]
    batch: dict[str, np.ndarray]


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
        """Fetch a batch, and hold all its files in memory.

        Raises:
            StorageError: nothing can be fetched with the present settings.
        """
        rows = range(len(batch[self.config.uri_column]))
        outcomes = {
            row: outcome for row, outcome in self._fetch_rows(batch, rows, None) if not isinstance(outcome, int)
        }
        return self._join(batch, outcomes)

    def in_parts(self, batch: dict[str, np.ndarray], held_bytes: int) -> Iterator[Part]:
        """Fetch a batch in parts whose files fit in memory together.

        What counts is what the files turn out to need, whatever the catalog says of their sizes. A file that is larger
        than the limit comes alone. To keep to the limit, forget a part before taking the next.

        Args:
            batch: a batch.
            held_bytes: most bytes of files in memory at once.

        Raises:
            StorageError: nothing can be fetched with the present settings.
        """
        needs = dict.fromkeys(range(len(batch[self.config.uri_column])), 0)
        while needs:
            part = self._fetch_part(batch, needs, held_bytes)
            yield part
            del part

    def _fetch_part(self, batch: dict[str, np.ndarray], needs: dict[int, int], held_bytes: int) -> Part:
        """Fetch the first rows that fit, and remove them from `needs`. Notes there what the others need."""
        outcomes: dict[int, _Outcome] = {}
        for row, outcome in self._fetch_rows(batch, first_that_fit(needs, held_bytes), held_bytes):
            if isinstance(outcome, int):
                needs[row] = outcome
            else:
                outcomes[row] = outcome
                del needs[row]
        rows = list(outcomes)
        return Part(rows, self._join({name: values[rows] for name, values in batch.items()}, outcomes))

    def _fetch_rows(
        self, batch: dict[str, np.ndarray], rows: Sequence[int], held_bytes: int | None
    ) -> list[tuple[int, _Outcome | int]]:
        """Return each row with its outcome, or with the bytes that it needs if there was no room for it."""
        uris = batch[self.config.uri_column]
        tags, unknown = batch[self.config.tag_column], [None] * len(uris)
        ids = batch.get(self.config.id_column, [""] * len(uris))
        sizes = batch.get(self.config.size_column, unknown)
        threads, budget = self.config.threads, Budget(held_bytes)
        # Use two pools, because a track that waits for its ranges must not hold a thread that they need.
        with ThreadPoolExecutor(threads, "ranges") as ranges, ThreadPoolExecutor(threads, "fetch") as pool:

            def start(row: int) -> Future[_Outcome | int]:
                tag, size = "" if tags[row] is None else str(tags[row]), sizes[row]
                wanted = _Wanted(str(uris[row]), tag, str(ids[row]), None if size is None else int(size))
                return pool.submit(self._fetch, row, wanted, budget, ranges)

            tasks = [start(row) for row in rows]
            try:
                return [(row, task.result()) for row, task in zip(rows, tasks, strict=True)]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _join(self, batch: dict[str, np.ndarray], found: Mapping[int, _Outcome]) -> dict[str, np.ndarray]:
        """Return the batch with the columns of its outcomes."""
        uris, outcomes = [str(uri) for uri in batch[self.config.uri_column]], list(found.values())
        self._readable.update(
            Uri.parse(uri).bucket for uri, outcome in zip(uris, outcomes, strict=True) if outcome.recording is not None
        )
        settle_doubts(
            ((uri, outcome.doubt) for uri, outcome in zip(uris, outcomes, strict=True) if outcome.doubt is not None),
            self._readable,
        )
        return {
            **batch,
            "recording": _objects([outcome.recording for outcome in outcomes]),
            "error_kind": _objects([None if each.recording is not None else each.kind.value for each in outcomes]),
            "error_message": _objects([outcome.message for outcome in outcomes]),
        }

    def _fetch(self, row: int, wanted: _Wanted, budget: Budget, ranges: ThreadPoolExecutor) -> _Outcome | int:
        reserve = partial(budget.reserve, row)
        try:
            outcome = self._fetch_uri(wanted, ranges, reserve)
        except PostponedError as error:
            return error.needed_bytes
        except AudioError as error:
            outcome = _Outcome(None, str(error), kind=error.kind)
        if outcome.recording is None:
            budget.release(row)
        return outcome

    def _fetch_uri(self, wanted: _Wanted, ranges: ThreadPoolExecutor, reserve: Reserve) -> _Outcome:
        try:
            uri = Uri.parse(wanted.uri)
        except StorageError as error:
            return _Outcome(None, str(error))
        return (
            self._fetch_s3(uri, wanted, ranges, reserve) if uri.is_remote else self._fetch_local(uri, wanted, reserve)
        )

    def _record(self, source: Source, again: Source, track_id: str, reserve: Reserve) -> _Outcome:
        if source.size_bytes > self.config.max_bytes:
            size, most = format_bytes(source.size_bytes), format_bytes(self.config.max_bytes)
            raise AudioError(ErrorKind.TOO_LARGE, f"it has {size}; at most {most} are allowed (--max-file-gib)")
        bounded = _Bounded(source, reserve)
        if self.plan is None:
            return _Outcome(bounded.read([ByteRange(0, source.size_bytes)])[0])
        return _Outcome(record(bounded, self.plan, track_id, again))

    def _fetch_local(self, uri: Uri, wanted: _Wanted, reserve: Reserve) -> _Outcome:
        try:
            with explain(uri, "read"), closing(open_file(uri.path, wanted.tag)) as file:
                return self._record(file, file, wanted.track_id, reserve)
        except StorageError as error:
            return _Outcome(None, str(error))

    def _fetch_s3(self, uri: Uri, wanted: _Wanted, ranges: ThreadPoolExecutor, reserve: Reserve) -> _Outcome:
        size_bytes = wanted.size_bytes
        partly = self.plan is not None and size_bytes is not None and size_bytes > SMALL_BYTES
        try:
            # The object itself reserves room for what it reads.
            source = S3Object(uri, wanted.tag, size_bytes, partly, ranges, reserve)
            return self._record(source, S3File(uri, source.tag, source.size_bytes), wanted.track_id, reserve_nothing)
        except (BaseError, BotoCoreError, ClientError, FileNotFoundError) as error:
            message, doubt = judge(error)
            return _Outcome(None, message, doubt)


def settle_doubts(doubts: Iterable[tuple[str, Exception]], readable: Collection[str] = ()) -> None:
    """Ask the bucket whether a denial, silence or failure of the store concerns one object or all.

    A store also answers AccessDenied for a missing object if the credentials may not list the bucket.

    Args:
        doubts: URIs, and the error of each.
        readable: buckets from which an object was read. If they deny access, the denial concerns a single object.

    Raises:
        StorageError: it concerns all.
    """
    settled: set[str] = set()
    for text, doubt in doubts:
        uri = Uri.parse(text)
        bucket = uri.bucket
        if bucket in settled:
            continue
        settled.add(bucket)
        if error_code(doubt) in _DENIED and bucket in readable:
            continue
        with explain(uri, "fetch"):
            try:
                # Some credentials may only list below a prefix.
                s3.client(uri).list_objects_v2(Bucket=bucket, Prefix=uri.key, MaxKeys=1)
            except ClientError as error:
                if error_code(error) not in _BUSY:
                    raise


class _Bounded:
    """A source from which at most `HELD_AT_ONCE_BYTES` are read at once, after room for them is reserved."""

    def __init__(self, source: Source, reserve: Reserve) -> None:
        self._source, self._reserve = source, reserve

    @property
    def size_bytes(self) -> int:
        return self._source.size_bytes

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        wanted = sum(piece.size_bytes for piece in ranges)
        if wanted > HELD_AT_ONCE_BYTES:
            most = format_bytes(HELD_AT_ONCE_BYTES)
            raise AudioError(ErrorKind.TOO_LARGE, f"{format_bytes(wanted)} are needed at once, {most} are the most")
        self._reserve(wanted)
        return self._source.read(ranges)


def judge(error: Exception) -> tuple[str, Exception | None]:
    """Return what an S3 error means for its track, and the error itself if it may concern the whole bucket."""
    code = error_code(error)
    if code in _GONE:
        return f"it is not there any more ({code})", None
    if code == "InvalidRange":
        return "it is shorter than the catalog says (InvalidRange); make the catalog anew", None
    if code:
        words = f"the store answers {code}"
    elif isinstance(error, BaseError) and (kind := _OBSTORE_KIND.search(str(error))):
        words = f"no complete answer from the store ({kind[1]})"
    else:
        words = redact(one_line(str(error)))[:300]
    return words, None if code in _BUSY or code == "InvalidObjectState" else error


_OBSTORE_KIND: Final = re.compile(r"HttpError \{\s*kind: (\w+)")
"""The word in obstore's text that says how a connection failed: Connect, Interrupted, Timeout."""


def open_file(path: str, tag: str) -> LocalFile:
    """Open a local file of a catalog. Does not wait: a pipe under such a name would wait for a writer forever.

    Args:
        path: its path.
        tag: the content tag that it must have; an empty one is not compared.

    Raises:
        AudioError: `fetch_failed`, it is no file, or was replaced.
        OSError: it cannot be opened.
    """
    file = LocalFile(path, os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    refusal = tag_refusal(content_tag(file.status), tag)
    if not stat.S_ISREG(file.status.st_mode):
        refusal = f"it is {'a folder' if stat.S_ISDIR(file.status.st_mode) else 'not a file'}"
    if refusal:
        file.close()
        raise AudioError(ErrorKind.FETCH_FAILED, refusal)
    return file


def _objects(values: Sequence[object]) -> np.ndarray:
    """Return an object array. By default, NumPy turns bytes of equal length into an array of bytes."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
