"""List a large `s3://` SOURCE in parallel, and save the listing in parts.

S3 lists keys in order from any key, at most a thousand per request. So each thread lists a stretch of keys. The
first stretches end at the folders that a delimiter shows. Later, whenever a thread is idle, it halves a long stretch at
a key that it finds with probes. So the threads can also share one huge folder, or a bucket without folders. The outcome
does not depend on the cuts.

The parts are Parquet files that record the stretch of keys they cover. A killed listing continues where they end.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Literal

import pyarrow as pa

from cluster.storage import files, s3
from cluster.storage.boto_types import ListedObject, Page, S3Client
from cluster.storage.failures import explain
from cluster.storage.listing import key_prefix
from cluster.storage.listing.facts import Survey, etag
from cluster.storage.listing.first_bytes import Looker
from cluster.storage.listing.key_order import ASCII_END, UNICODE_END, between, shared
from cluster.storage.listing.parts import FACTS, Part, fit, read_parts, survey_of, trusted_parts, write_part
from cluster.storage.listing.sieve import Sieve
from cluster.storage.selection import ALL, Selection
from cluster.storage.uri import Uri
from mgc.errors import StorageError

LISTERS: Final = 16
"""Requests at a time. Amazon allows 5,500 a second; one core parses about 50 answers a second."""

PART_PAGES: Final = 20
"""Pages of keys in a part. A kill loses at most 320 requests of `LISTERS` threads; ten million keys take 10,000."""

_SPLIT_AFTER_PAGES: Final = 2
"""Pages to list, since a stretch began or was last examined, before it may be halved."""
_PROBES: Final = 24
"""Requests, for one key each, in one search for a middle. The next search starts from their results."""
_PAGES_A_PROBE: Final = 5
"""Pages to list before each further probe, so that searches stay cheap."""
_USUAL: Final = 256
"""Most characters of keys to remember. Chinese keys would have thousands."""
_FOLDER_LEVELS: Final = 8


# boto3 spends nine tenths of the time for a page on its dates. A `<` in a key is written `%3C` or `&lt;`.
_UNREAD: Final = re.compile(rb"<(LastModified|StorageClass|ChecksumType|ChecksumAlgorithm|Owner)>.*?</\1>", re.DOTALL)


_Kind = Literal["page", "folders", "probe"]


@dataclass(frozen=True)
class Listing:
    """A complete listing.

    Attributes:
        parts: the parts in order of keys; together they cover the whole prefix.
        survey: what was seen besides the tracks.
        kept_tracks: the number of tracks that an earlier, unfinished listing had found.
        kept_since: the time at which the oldest of them was listed, in seconds since 1970.
        expired_parts: the number of parts that were too old to use.
        requests: the number of requests of this run by kind: `page`, `folders`, `probe`.
    """

    parts: tuple[Part, ...]
    survey: Survey
    kept_tracks: int
    kept_since: float | None
    expired_parts: int
    requests: Counter[_Kind]

    @property
    def keys(self) -> int:
        """The number of keys below SOURCE."""
        return sum(part.keys for part in self.parts)

    @property
    def tracks(self) -> int:
        """The number of tracks."""
        return sum(part.tracks for part in self.parts)

    def tables(self) -> Iterator[pa.Table]:
        """Yield the tracks in order of track id as rows of `schema.CATALOG`, a part at a time."""
        return read_parts(self.parts)


def list_in_parts(
    source: Uri, folder: Uri, progress: Callable[[int], object] | None = None, selection: Selection = ALL
) -> Listing:
    """List an `s3://` prefix in parallel into a folder of parts. Continues from the parts that are already there.

    Args:
        source: the prefix. A single object has no keys below it: see `list_audio`.
        folder: a folder for this listing alone. The caller removes it after reading the listing.
        progress: a function to call with the number of files seen so far, tracks and others.
        selection: which of the files are wanted. The folder must be for the same selection.

    Raises:
        StorageError: some of the keys cannot be listed. The finished parts stay.
    """
    client = s3.client(source)
    client.meta.events.register("before-parse.s3.ListObjectsV2", _leave_out, unique_id="mgc-listing")
    trusted, expired = trusted_parts(folder)
    kept, gaps = fit(trusted)
    seen = sum(part.tracks for part in kept) + survey_of(kept).passed_over.total()
    with Looker(client, source.bucket) as looker, explain(source, "list"):
        lister = _Lister(client, source, folder, seen, progress, functools.partial(_sieve, source, selection, looker))
        added = lister.run(gaps, fresh=not kept) if gaps else []
    parts, left = fit([*kept, *added])
    if left or len(parts) != len(kept) + len(added):
        raise StorageError(f"cannot list {source}: keys are left over. This is a bug in mgc; please report it.")
    return Listing(
        tuple(parts),
        survey_of(parts),
        sum(part.tracks for part in kept),
        min((part.listed_at for part in kept), default=None),
        expired,
        lister.requests,
    )


def _sieve(source: Uri, selection: Selection, looker: Looker) -> Sieve:
    return Sieve(key_prefix(source), selection, looker.look)


@dataclass(eq=False)
class _Stretch:
    """The keys after `after` up to `until`, which one thread lists. It changes only under the lister's lock.

    Attributes:
        first: the first key listed.
        position: the last key listed.
        ceiling: a text above which no key of the stretch was found; the middle is below it.
        pages: the number of pages listed since it began or was last examined for halving.
        halving: whether another thread is looking for its middle.
    """

    after: str
    until: str | None
    ceiling: str
    first: str = ""
    position: str = ""
    pages: int = 0
    halving: bool = False

    def __post_init__(self) -> None:
        self.position = self.after

    def holds(self, key: str) -> bool:
        return self.until is None or key <= self.until


@dataclass(eq=False)
class _Gathered:
    """The keys that a thread has listed but not yet written."""

    after: str
    sieve: Sieve
    listed_at: float = field(default_factory=time.time)
    rows: list[pa.Table] = field(default_factory=list)
    keys: int = 0
    pages: int = 0


class _Lister:
    """Runs the threads that list stretches of keys until none is left."""

    def __init__(
        self,
        client: S3Client,
        source: Uri,
        folder: Uri,
        seen: int,
        progress: Callable[[int], object] | None,
        sieve: Callable[[], Sieve],
    ) -> None:
        self.requests: Counter[_Kind] = Counter()
        self._sieve = sieve
        self._client, self._bucket, self._prefix, self._folder = client, source.bucket, key_prefix(source), folder
        # Keys of our own parts, in case CATALOG is inside SOURCE.
        self._own = key_prefix(folder) if folder.bucket == source.bucket else None
        self._seen, self._progress = seen, progress
        self._turn = threading.Condition()
        self._waiting: list[_Stretch] = []
        self._listed: list[_Stretch] = []
        self._parts: list[Part] = []
        self._usual = ""
        self._fresh = False
        self._stopped = False
        self._error: BaseException | None = None

    def run(self, gaps: Sequence[tuple[str, str | None]], fresh: bool) -> list[Part]:
        """List the gaps. If they are the whole prefix (`fresh`), look up its folders first."""
        self._waiting = [self._stretch(after, until) for after, until in gaps]
        self._fresh = fresh
        with ThreadPoolExecutor(LISTERS, thread_name_prefix="mgc-list") as threads:
            try:
                for done in [threads.submit(self._work) for _ in range(LISTERS)]:
                    done.result()
            except BaseException:
                # After an interrupt, the threads write what they have listed and then end.
                self._stop(None)
                raise
        if self._error is not None:
            raise self._error
        return self._parts

    def _stretch(self, after: str, until: str | None) -> _Stretch:
        return _Stretch(after, until, until if until is not None else self._prefix + chr(UNICODE_END))

    def _stop(self, error: BaseException | None) -> None:
        with self._turn:
            self._error = self._error or error
            self._stopped = True
            self._turn.notify_all()

    def _work(self) -> None:
        try:
            while (stretch := self._next()) is not None:
                self._list(stretch)
        except BaseException as error:  # noqa: BLE001  raised by `run`, the first of all threads
            self._stop(error)

    def _next(self) -> _Stretch | None:
        """Return a waiting stretch, or half of one that another thread lists; None when nothing is left to do."""
        while True:
            with self._turn:
                while True:
                    if self._stopped or not (self._waiting or self._listed):
                        self._turn.notify_all()
                        return None
                    if self._waiting:
                        self._listed.append(self._waiting.pop(0))
                        return self._listed[-1]
                    long = [each for each in self._listed if each.pages >= _SPLIT_AFTER_PAGES and not each.halving]
                    if long and self.requests["probe"] < 4 * LISTERS + self.requests["page"] // _PAGES_A_PROBE:
                        break
                    self._turn.wait()
                whole = max(long, key=lambda each: each.pages)
                whole.halving = True
            middle = self._middle(whole)
            with self._turn:
                whole.halving, whole.pages = False, 0
                # The thread that lists the stretch may have passed that place by now.
                if middle is not None and whole in self._listed and whole.position <= middle and whole.holds(middle):
                    half = _Stretch(middle, whole.until, whole.ceiling)
                    whole.until = whole.ceiling = middle
                    self._listed.append(half)
                    return half

    def _middle(self, stretch: _Stretch) -> str | None:
        """Find a place within the rest of a stretch that has a key after it, or None."""
        self._find_end(stretch)
        for _ in range(_PROBES):
            middle = between(stretch.position, stretch.ceiling, self._usual)
            if middle is None:
                return None
            if self._probe(stretch, middle) is not None:
                return middle
            stretch.ceiling = middle
        return None

    def _find_end(self, stretch: _Stretch) -> None:
        """Lower the ceiling of an open-ended stretch to the end of the prefix that its keys share."""
        if stretch.until is not None or stretch.ceiling != self._prefix + chr(UNICODE_END):
            return
        common = stretch.position[: shared(stretch.first, stretch.position)]
        while len(common) >= len(self._prefix):
            end = common + chr(ASCII_END)
            if end <= stretch.position:
                end = common + chr(UNICODE_END)
            key = self._probe(stretch, end)
            if key is None:
                stretch.ceiling = end
                return
            if shared(common, key) == len(common):
                return
            common = common[: shared(common, key)]

    def _probe(self, stretch: _Stretch, after: str) -> str | None:
        """Return the first key of a stretch after a given one."""
        page = self._ask("probe", StartAfter=after, MaxKeys=1)
        return next((item["Key"] for item in page.get("Contents", ()) if stretch.holds(item["Key"])), None)

    def _list(self, stretch: _Stretch) -> None:
        """List a stretch to its end. Other threads may shorten it meanwhile."""
        gathered = _Gathered(stretch.after, self._sieve())
        place = {"StartAfter": stretch.after} if stretch.after else {}
        done = False
        while not done:
            page = self._ask("page", MaxKeys=files.PAGE_KEYS, **place)
            items = page.get("Contents", [])
            more = bool(page.get("IsTruncated"))
            last = stretch.position
            for item in items:
                if item["Key"] <= last:
                    raise StorageError(
                        f"cannot list s3://{self._bucket}/{self._prefix}: the store does not list keys in their "
                        f"order ({item['Key']!r} after {last!r}); copy them to a bucket of another kind."
                    )
                last = item["Key"]
            with self._turn:
                within = [item for item in items if stretch.holds(item["Key"])]
                if within:
                    stretch.first = stretch.first or within[0]["Key"]
                    stretch.position = within[-1]["Key"]
                done = not more or len(within) < len(items) or stretch.position == stretch.until
                if done:
                    self._listed.remove(stretch)
                stretch.pages += 1
                self._usual = "".join({*self._usual, *stretch.position}) if len(self._usual) < _USUAL else self._usual
                fresh, self._fresh = self._fresh, False
                stopped = self._stopped
                self._turn.notify_all()
            self._gather(gathered, within)
            if fresh and not done:
                self._divide(stretch)
            if done or stopped or gathered.pages >= PART_PAGES:
                until = stretch.until if done else stretch.position
                # A stretch that was cut right after its last written key has nothing left. An empty part would begin at
                # the same key as the part of the other half, and overlap with it.
                if until != gathered.after:
                    self._write(gathered, until)
                gathered = _Gathered(stretch.position, self._sieve())
            if stopped:
                return
            place = {"ContinuationToken": page.get("NextContinuationToken", "")}

    def _gather(self, gathered: _Gathered, items: Sequence[ListedObject]) -> None:
        others = [item for item in items if self._own is None or not item["Key"].startswith(self._own)]
        passed_over = gathered.sieve.survey.passed_over.total()
        kept = gathered.sieve.tracks(others)
        with self._turn:
            self._seen += len(kept) + gathered.sieve.survey.passed_over.total() - passed_over
            if self._progress is not None:
                self._progress(self._seen)
        columns = [
            pa.array([track_id for track_id, _ in kept], pa.string()),
            pa.array([f"s3://{self._bucket}/{item['Key']}" for _, item in kept], pa.string()),
            pa.array([item["Size"] for _, item in kept], pa.int64()),
            pa.array([etag(item["ETag"]) for _, item in kept], pa.string()),
        ]
        gathered.rows.append(pa.table(columns, schema=FACTS))
        gathered.keys += len(items)
        gathered.pages += 1

    def _write(self, gathered: _Gathered, until: str | None) -> None:
        rows = pa.concat_tables(gathered.rows).combine_chunks()
        part = write_part(self._folder, rows, gathered.after, until, gathered.listed_at, gathered.keys, gathered.sieve)
        with self._turn:
            self._parts.append(part)

    def _divide(self, first: _Stretch) -> None:
        """Cut the rest of the first stretch at folders. Look a few levels deep, until there are enough of them."""
        level, folders = [self._prefix], set[str]()
        with ThreadPoolExecutor(LISTERS) as threads:
            for _ in range(_FOLDER_LEVELS):
                pages = threads.map(
                    lambda each: self._ask("folders", Prefix=each, Delimiter="/", MaxKeys=files.PAGE_KEYS), level
                )
                level = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", ())]
                folders.update(level)
                if not level or len(folders) >= LISTERS:
                    break
        wanted = 4 * LISTERS
        # With one stretch per folder, a thousand small folders would take a thousand requests instead of a few.
        ends = sorted(folders)
        ends = [ends[at * len(ends) // wanted] for at in range(wanted)] if len(ends) > wanted else ends
        with self._turn:
            ends = [end for end in ends if end > first.position and first.holds(end) and end != first.until]
            edges = [*ends, first.until]
            if ends:
                first.until = first.ceiling = ends[0]
                self._waiting += [self._stretch(after, until) for after, until in zip(ends, edges[1:], strict=True)]
                self._turn.notify_all()

    def _ask(self, kind: _Kind, **arguments: str | int) -> Page:
        with self._turn:
            self.requests[kind] += 1
        return self._client.list_objects_v2(Bucket=self._bucket, **({"Prefix": self._prefix} | arguments))


def _leave_out(response_dict: dict[str, object], **_: object) -> None:
    """Drop the fields of a page that nobody uses before boto3 parses them."""
    body = response_dict.get("body")
    if isinstance(body, bytes):
        response_dict["body"] = _UNREAD.sub(b"", body)
