"""List the audio files of SOURCE (a folder, a file, an `s3://` prefix or an object) in order of track id.

Requests to S3 go one after another here. `cluster.storage.listing.parallel` lists a large prefix in parallel, with the
same outcome.

The extension tells whether a file is audio. If a file has none, its first bytes do. A file that is not audio after all
is quarantined with its reason when it is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator

from botocore.exceptions import ClientError

from cluster.storage import files, s3
from cluster.storage.boto_types import ListedObject
from cluster.storage.failures import error_code, explain
from cluster.storage.listing.facts import EXCLUDED, FileFact, Survey, etag
from cluster.storage.listing.first_bytes import Looker
from cluster.storage.listing.local import list_local
from cluster.storage.listing.sieve import Sieve, is_track
from cluster.storage.selection import ALL, Selection
from cluster.storage.uri import Uri
from mgc.errors import StorageError


def list_audio(source: Uri, survey: Survey | None = None, selection: Selection = ALL) -> Iterator[FileFact]:
    """Stream the audio files of SOURCE, sorted by track id.

    Follows links to folders, each folder once, unless they lead back into SOURCE. A folder below SOURCE that cannot be
    read does not end the listing; `survey` names it.

    Args:
        source: a local folder or file, an `s3://` prefix or object.
        survey: what is seen besides the tracks is added to it.
        selection: which of the files are wanted.

    Raises:
        StorageError: nothing is there, or it cannot be listed.
    """
    seen = Survey() if survey is None else survey
    with explain(source, "list"):
        yield from _list_s3(source, seen, selection) if source.is_remote else list_local(source, seen, selection)


def key_prefix(folder: Uri) -> str:
    """Return the prefix of the keys below an `s3://` folder: empty, or the folder with a slash at the end."""
    return folder.key.rstrip("/") + "/" if folder.key.strip("/") else ""


def _list_s3(source: Uri, survey: Survey, selection: Selection) -> Iterator[FileFact]:
    bucket, key, prefix = source.bucket, source.key, key_prefix(source)
    client = s3.client(source)
    anything = False
    with Looker(client, bucket) as looker:
        sieve = Sieve(prefix, selection, looker.look)
        sieve.survey = survey
        pages = client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": files.PAGE_KEYS}):
            items = page.get("Contents", ())
            anything = anything or bool(items)
            yield from _facts(bucket, sieve.tracks(items))
        if anything or not prefix:
            return
        try:
            head = client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error_code(error) != "404":
                raise
            raise StorageError(f"cannot list {source}: no object is there; check the prefix.") from None
        name = key.rpartition("/")[2]
        if selection.excludes(name):
            survey.pass_over(EXCLUDED)
        elif is_track(name, head["ContentLength"], lambda: looker.look([key])[0], survey, selection):
            item = ListedObject(Key=key, Size=head["ContentLength"], ETag=head["ETag"])
            yield from _facts(bucket, [(name, item)])


def _facts(bucket: str, tracks: list[tuple[str, ListedObject]]) -> Iterator[FileFact]:
    for track_id, item in tracks:
        yield FileFact(track_id, f"s3://{bucket}/{item['Key']}", item["Size"], etag(item["ETag"]))
