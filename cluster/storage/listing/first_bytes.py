"""Look at the first bytes of files that have no extension: do they begin like audio?"""

from __future__ import annotations

import os
import string
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self

from botocore.exceptions import BotoCoreError, ClientError

from cluster.storage import s3
from cluster.storage.boto_types import S3Client
from cluster.storage.failures import error_code
from mgc.audio.probe import probe
from mgc.audio.source import Held
from mgc.errors import AudioError

HEAD_BYTES: Final = 1 << 14
"""Bytes to read of a file. Three frames of MPEG audio or AAC, which prove a stream, take 5 KiB at most."""

LOOKS_AT_ONCE: Final = 16
"""Requests for first bytes at a time, of a whole listing."""

_GONE: Final = frozenset({"NoSuchKey", "404", "InvalidRange", "416"})
"""What the store says of an object that is gone, or empty, by now."""

_REFUSED: Final = frozenset({"AccessDenied", "Forbidden", "403", "InvalidObjectState"})
"""What it says of an object that these credentials may not read, or that is archived."""

_TEXT: Final = frozenset(string.printable.encode())


def begins_like_audio(head: bytes) -> bool:
    """Return whether a file begins with a container, frames or a tag that mgc recognises.

    Plain text does not, even if its first letters are those of a container.

    Args:
        head: the first bytes of the file, up to `HEAD_BYTES`.
    """
    if head.startswith((b"ID3", b"APETAGEX")):
        return True
    if _TEXT.issuperset(head):
        return False
    try:
        probe(Held(head))
    except AudioError:
        return False
    return True


def look_at_file(path: str) -> bool | None:
    """Return whether a local file begins like audio; None if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  the name may be no text that Path keeps
            return begins_like_audio(os.read(file.fileno(), HEAD_BYTES))
    except FileNotFoundError:
        return False
    except OSError:
        return None


class Looker:
    """Looks at objects of a bucket, at most `LOOKS_AT_ONCE` at a time. Threads may share it.

    Args:
        client: client of the bucket.
        bucket: name of the bucket.
    """

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket
        self._threads = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="mgc-look")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def look(self, keys: Sequence[str]) -> list[bool | None]:
        """Return for each object, which must not be empty, whether it begins like audio; None if it is refused.

        Raises:
            BotoCoreError: the store does not answer.
            ClientError: the store refuses everything.
        """
        return list(self._threads.map(self._look, keys))

    def _look(self, key: str) -> bool | None:
        try:
            return begins_like_audio(self._head(key))
        except ClientError as error:
            code = error_code(error)
            if code in _GONE:
                return False
            if code in _REFUSED:
                return None
            raise

    def _head(self, key: str) -> bytes:
        for left in reversed(range(s3.ATTEMPTS)):
            answer = self._client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{HEAD_BYTES - 1}")
            try:
                return answer["Body"].read()
            except BotoCoreError:
                # boto3 tries requests again, but not bodies that end early.
                if not left:
                    raise
        raise AssertionError("the last round returns or raises")
