"""An S3 object as a source of bytes: read its beginning at once and the rest by ranges."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import obstore
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError

from cluster.storage import s3
from cluster.storage.boto_types import ObjectHead
from cluster.storage.listing.facts import etag
from cluster.storage.redaction import one_line, redact
from cluster.storage.uri import Uri
from mgc.audio.source import ByteRange
from mgc.errors import AudioError, ErrorKind

FIRST_BYTES: Final = 1 << 16
"""Size of the first request for an object that may not be needed completely."""

COALESCED_BYTES: Final = 1 << 16
"""Ranges closer together than this become one request."""

PIECE_BYTES: Final = 1 << 24
"""Most bytes in one request. If the transfer of a large object breaks off, it does not start from the beginning."""


class S3Object:
    """Reads the first bytes of an object at once and the others by ranges, many at a time.

    obstore takes a fraction of boto3's processor time (BENCHMARKS.md, ranged reads). It retries requests, and continues
    where a body broke off if the ETag is still the same. boto3 reads the few keys that obstore cannot handle.

    Every answer has an ETag for its bytes, which is compared with the tag in the catalog.
    """

    def __init__(
        self,
        uri: Uri,
        tag: str,
        expected_bytes: int | None,
        partly: bool,
        threads: ThreadPoolExecutor,
        reserve: Callable[[int], object],
        first_bytes: int = FIRST_BYTES,
        coalesced_bytes: int = COALESCED_BYTES,
    ) -> None:
        """Read the beginning, or all of a small object.

        Args:
            uri: the object.
            tag: the content tag that the object must have; "" accepts that of the first answer.
            expected_bytes: its size in the catalog, which may be wrong; it only decides the first request.
            partly: whether some of its bytes may not be needed.
            threads: the threads that read ranges.
            reserve: function that is called with a number of bytes before they are read; it may raise to stop.
            first_bytes: size of the first request, if some bytes may not be needed.
            coalesced_bytes: ranges closer together than this become one request.

        Raises:
            AudioError: the object has a different tag.
        """
        self._uri = uri
        self.tag, self._threads, self._reserve = tag, threads, reserve
        self._coalesced_bytes = coalesced_bytes
        self._plain = _PLAIN_KEY.fullmatch(uri.key) is not None
        self.size_bytes = -1
        # An empty object has no first byte to ask for, so a small one is requested whole.
        most = first_bytes if partly else PIECE_BYTES
        self._begin = bytes(self._get(ByteRange(0, most) if (expected_bytes or 0) > most else None))

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Read the bytes of each range."""
        here = len(self._begin)
        wanted = [(max(start, here), min(stop, self.size_bytes)) for start, stop in ranges]
        spans = _spans([ByteRange(start, stop) for start, stop in wanted if start < stop], self._coalesced_bytes)
        self._reserve(sum(span.size_bytes for span in spans))
        parts = self._threads.map(self._get, spans) if len(spans) > 1 else map(self._get, spans)
        held: list[tuple[int, bytes | memoryview]] = [(0, self._begin)]
        held += [(span.start, memoryview(part)) for span, part in zip(spans, parts, strict=True)]
        return [
            # At most one copy: join and slice return a single bytes object itself.
            b"".join(
                [data[max(start - at, 0) : stop - at] for at, data in held if at < stop and start < at + len(data)]
            )
            for start, stop in ranges
        ]

    def _get(self, piece: ByteRange | None) -> bytes | obstore.Bytes:
        """Read a range. For None, read the whole object, or nothing if it is larger than a piece."""
        data = self._get_by_obstore(piece) if self._plain else self._get_by_boto3(piece)
        if piece is not None and len(data) != min(piece.stop, self.size_bytes) - piece.start:
            raise AudioError(ErrorKind.FETCH_FAILED, f"the store gave {len(data)} of {piece.size_bytes} bytes")
        return data

    def _get_by_obstore(self, piece: ByteRange | None) -> bytes | obstore.Bytes:
        answer = obstore.get(
            s3.ranges(self._uri.bucket, self._uri), self._uri.key, options={} if piece is None else {"range": piece}
        )
        self._recognise(answer.meta["e_tag"], answer.meta["size"], piece)
        return b"" if piece is None and self.size_bytes > PIECE_BYTES else answer.bytes()

    def _get_by_boto3(self, piece: ByteRange | None) -> bytes:
        span = {} if piece is None else {"Range": f"bytes={piece.start}-{piece.stop - 1}"}
        for left in reversed(range(s3.ATTEMPTS)):
            answer = s3.client(self._uri).get_object(Bucket=self._uri.bucket, Key=self._uri.key, **span)
            with contextlib.closing(answer["Body"]) as body:
                self._recognise(answer.get("ETag"), _whole_size(answer), piece)
                try:
                    data = b"" if piece is None and self.size_bytes > PIECE_BYTES else body.read()
                except BotoCoreError:
                    # botocore retries requests, but not a body that breaks off.
                    if not left:
                        raise
                    time.sleep(random.uniform(0.1, 2.0))
                else:
                    return data
        raise AssertionError("the last try returns or raises")

    def _recognise(self, found_etag: str | None, size_bytes: int, piece: ByteRange | None) -> None:
        """Check that an answer is about the right object before its body is read. Reserves room for the first one."""
        found = etag(found_etag or "")
        refusal = tag_refusal(found, self.tag)
        if self.size_bytes >= 0 and (refusal or size_bytes != self.size_bytes):
            refusal = "it was replaced while it was read; make the catalog anew"
        if refusal:
            raise AudioError(ErrorKind.FETCH_FAILED, refusal)
        first = self.size_bytes < 0
        self.tag, self.size_bytes = found, size_bytes
        if first:
            whole = 0 if size_bytes > PIECE_BYTES else size_bytes
            self._reserve(whole if piece is None else min(piece.size_bytes, size_bytes))


class S3File:
    """An S3 object as a source that is read by ranges while it is decoded. It connects when it is first read."""

    def __init__(self, uri: Uri, tag: str, size_bytes: int) -> None:
        """Describe the object.

        Args:
            uri: the object.
            tag: the content tag that its bytes must have.
            size_bytes: its size.
        """
        self._uri, self._tag, self._size_bytes = uri, tag, size_bytes
        self._object: S3Object | None = None

    @property
    def size_bytes(self) -> int:
        """Size of the object."""
        return self._size_bytes

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Read the bytes of each range.

        Raises:
            AudioError: `fetch_failed`, the store did not give them, or the object was replaced.
        """
        try:
            if self._object is None:
                threads = ThreadPoolExecutor(_CONNECTIONS, "ranges")
                self._object = S3Object(self._uri, self._tag, self._size_bytes, True, threads, reserve_nothing)
            return self._object.read(ranges)
        except (BaseError, BotoCoreError, ClientError, FileNotFoundError) as error:
            text = f"the store did not give all of it: {redact(one_line(str(error)))[:300]}"
            raise AudioError(ErrorKind.FETCH_FAILED, text) from None


_CONNECTIONS: Final = 4


def reserve_nothing(size_bytes: int) -> None:
    """Do nothing: the reader has no budget of bytes."""


_PLAIN_KEY: Final = re.compile(r"(?:(?!\.{1,2}(?:/|$))[^/\x00-\x1f\x7f]+(?:/(?!$)|$))+")
"""Keys that obstore reads as they are. It refuses others (`a//b`) or reads a different object (`a` for `/a`)."""


def _spans(pieces: list[ByteRange], coalesced_bytes: int) -> list[ByteRange]:
    """Return the requests for pieces, in order. Joins nearby pieces and cuts large ones."""
    joined: list[ByteRange] = []
    for piece in sorted(pieces):
        if joined and piece.start - joined[-1].stop <= coalesced_bytes:
            joined[-1] = ByteRange(joined[-1].start, max(joined[-1].stop, piece.stop))
        else:
            joined.append(piece)
    return [
        ByteRange(start, min(start + PIECE_BYTES, whole.stop))
        for whole in joined
        for start in range(whole.start, whole.stop, PIECE_BYTES)
    ]


def tag_refusal(found_tag: str, tag: str) -> str | None:
    """Return why a file is not the one in the catalog, or None if it is. An empty `tag` accepts any file."""
    if tag and found_tag != tag:
        return f"it was replaced since the catalog was made (catalog {tag}, now {found_tag}); make the catalog anew"
    return None


def _whole_size(answer: ObjectHead) -> int:
    """Return the size of the whole object from an answer about all of it or its beginning."""
    content_range: str = answer.get("ContentRange", "")
    return int(content_range.rpartition("/")[2]) if content_range else int(answer["ContentLength"])
