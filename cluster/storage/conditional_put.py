"""Find out whether a store can refuse to replace an object. If not, two writers of a table can lose a commit.

A commit of a Delta table is an object with the next number in its name. The writer asks the store to refuse it if there
is such an object already (`If-None-Match: *`). In a store that does not know this header, the second of two writers
replaces the commit of the first.
"""

from __future__ import annotations

import uuid
from typing import Final

from botocore.exceptions import ClientError

from cluster.storage import files, s3
from cluster.storage.failures import explain
from cluster.storage.notice import notice
from cluster.storage.redaction import redact
from cluster.storage.uri import Uri
from mgc.errors import LabelsError, StorageError

_DONE: Final = 200
_REFUSED: Final = (409, 412)
_UNKNOWN: Final = (400, 501)

_found_good: Final[set[tuple[str, str | None]]] = set()
"""Buckets and endpoints that this process has probed."""


def require_conditional_put(folder: Uri) -> None:
    """Refuse a store in which two runs could overwrite each other's commits. A process asks once per store and bucket.

    Writes a probe into the folder, tries to write it a second time, and deletes it. A local folder needs no probe.

    Raises:
        LabelsError: the store accepts the second write, or does not know the request.
        StorageError: the store cannot be reached, or nothing can be written there.
    """
    if not folder.is_remote:
        return
    store = folder.bucket, s3.connection(folder).endpoint_url
    if store in _found_good:
        return
    answer = _write_twice(folder / f"_probe-{uuid.uuid4().hex}")
    if answer not in _REFUSED:
        what = "replaces it all the same" if answer == _DONE else f"answers {answer}"
        where = redact(store[1] or "Amazon S3")
        raise LabelsError(
            f"{folder}: the store at {where}, asked not to replace an object (If-None-Match), {what}, so two runs "
            "could overwrite each other's commits. Keep the labels table in a store with conditional writes, such as "
            "Amazon S3, or on a local disk."
        )
    _found_good.add(store)


def _write_twice(probe: Uri) -> int:
    """Return the status of the second of two conditional writes, or of the first if the store does not know them."""
    try:
        # A retry of a first write whose answer was lost is refused, like the second.
        first = _write(probe)
        return first if first in _UNKNOWN else _write(probe)
    finally:
        try:
            files.delete(probe)
        except StorageError as error:
            notice(f"A probe of the store could not be deleted: {error}")


def _write(probe: Uri) -> int:
    """Return the status of a conditional write: `_DONE`, or one of `_REFUSED` or `_UNKNOWN`."""
    with explain(probe, "write"):
        try:
            s3.client(probe).put_object(Bucket=probe.bucket, Key=probe.key, Body=b"probe", IfNoneMatch="*")
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            if status in (*_REFUSED, *_UNKNOWN):
                return status
            raise
    return _DONE
