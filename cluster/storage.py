"""From a URI to a filesystem: local paths and `s3://`, and one clear line for whatever fails there.

Local paths may be relative, begin with `~`, or be written as `file://` (the only form that is percent-decoded). In
`s3://` URIs the key is taken literally, so that `#`, `%`, `?` and spaces in names survive. Endpoint, region and
credentials come from the usual AWS variables and profile, never from a URI: boto3 finds them, pyarrow and deltalake
look in the same places.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import shutil
import stat
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow.fs
from botocore.exceptions import ClientError, NoCredentialsError

from cluster.storage_errors import CREDENTIALS_HINT, error_code, explain, one_line, redact
from mgc.errors import StorageError

__all__ = [
    "Location",
    "copy_tree",
    "delete",
    "delta_options",
    "exists",
    "explain",
    "is_remote",
    "join",
    "list_uris",
    "local_path",
    "local_uri",
    "locate",
    "read_bytes",
    "read_text",
    "redact",
    "s3_client",
    "split_s3",
    "write_bytes",
]

CONNECT_TIMEOUT_SECONDS: Final = 5
READ_TIMEOUT_SECONDS: Final = 20
PAGE_KEYS: Final = 1000
"""What S3 lists, or deletes, in one request at most."""

ATTEMPTS: Final = 3
"""Tries of one request, the first included. Three connects that nobody answers end within 20 s."""


_DELTA_FINDS: Final = frozenset({"env", "iam-role", "container-role", "assume-role-with-web-identity"})
"""botocore's names for where credentials may come from, as far as deltalake looks there too."""


@dataclass(frozen=True)
class Location:
    """Where a URI leads. Picklable, and free of credentials also when pickled: each process finds its own.

    Attributes:
        uri: normalised: an absolute local path, or `s3://bucket/key` without a slash at the end.
        filesystem: a pyarrow filesystem.
        path: the path to hand to that filesystem.
    """

    uri: str
    filesystem: pyarrow.fs.FileSystem
    path: str


@dataclass(frozen=True, eq=False)
class _S3:
    client: Any
    credentials: Any
    filesystem: pyarrow.fs.S3FileSystem
    endpoint_url: str | None
    region: str


def is_remote(uri: str) -> bool:
    """Whether a URI lies in object storage, to which every machine has access, and not on this machine's disk."""
    return uri.startswith("s3://")


def locate(uri: str) -> Location:
    """Turn a URI into a filesystem and a path, without asking whether anything is there.

    Raises:
        StorageError: the URI is of no kind that mgc knows, or the S3 settings are incomplete.
    """
    if is_remote(uri):
        bucket, key = split_s3(uri)
        path = f"{bucket}/{key}".rstrip("/")
        return Location(f"s3://{path}", _s3(uri).filesystem, path)
    path = local_path(uri)
    return Location(local_uri(path), pyarrow.fs.LocalFileSystem(), path)


def local_path(uri: str) -> str:
    """The absolute path of a local URI.

    Raises:
        StorageError: not a local path and not `file://`.
    """
    if uri.startswith("file://"):
        host, slash, rest = uri.removeprefix("file://").partition("/")
        if host not in ("", "localhost"):
            raise StorageError(f"{redact(uri)}: a file URI names no host; write file:///path or just the path.")
        # By bytes, so that a name that is not UTF-8 comes back as the operating system has it.
        path = os.fsdecode(urllib.parse.unquote_to_bytes(slash + rest))
    elif "://" in uri:
        raise StorageError(f"{redact(uri)}: cannot read this kind of URI; use a local path or s3://bucket/key.")
    else:
        path = uri
    if not path or "\0" in path:
        raise StorageError(f"{one_line(path)!r} is no path; use a local path or s3://bucket/key.")
    try:
        return os.path.normpath(Path(path).expanduser().absolute())
    except RuntimeError:
        raise StorageError(f"{redact(uri)}: there is no home directory of that user; write the whole path.") from None


def local_uri(path: str) -> str:
    """The URI of an absolute local path: the path itself, or `file://` where its bytes are not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + urllib.parse.quote_from_bytes(os.fsencode(path))
    return path


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of an `s3://` URI; the key is literal and may be empty.

    Raises:
        StorageError: there is no bucket, or credentials stand where the bucket belongs.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if "@" in bucket or ":" in bucket:
        # The message leaves the URI out: what stands before the bucket may be a password.
        raise StorageError(f"an s3:// URI names a bucket only, no credentials and no port; {CREDENTIALS_HINT}.")
    if not bucket:
        raise StorageError(f"{redact(uri)}: no bucket is named; write s3://bucket/key.")
    return bucket, key


def join(uri: str, *parts: str) -> str:
    """A URI below another one: `join("s3://b/x", "y", "z.json")` is `s3://b/x/y/z.json`."""
    below = [part.strip("/") for part in parts]
    return "/".join([uri.rstrip("/"), *(part for part in below if part)])


def exists(uri: str) -> bool:
    """Whether a file or a folder is there. A missing bucket is an error, since nothing could be written there."""
    with explain(uri, "look up"):
        if not is_remote(uri):
            return Path(local_path(uri)).exists()
        bucket, key = split_s3(uri)
        # The listing comes first: a HEAD cannot tell a missing bucket from a missing object.
        return any(True for _ in _keys(uri, limit=1)) or not key or _is_object(bucket, key)


def read_bytes(uri: str) -> bytes:
    """A whole file."""
    with explain(uri, "read"):
        if not is_remote(uri):
            return Path(local_path(uri)).read_bytes()
        bucket, key = split_s3(uri)
        body: bytes = s3_client(uri).get_object(Bucket=bucket, Key=key)["Body"].read()
        return body


def read_text(uri: str) -> str:
    """A whole file of UTF-8 text."""
    data = read_bytes(uri)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise StorageError(f"{redact(uri)}: not UTF-8 text (byte {error.start}); write the file anew.") from None


def write_bytes(uri: str, data: bytes) -> None:
    """Write a whole file at once: a reader finds the old one or the new one, never half. Makes local folders."""
    with explain(uri, "write"):
        if is_remote(uri):
            bucket, key = split_s3(uri)
            s3_client(uri).put_object(Bucket=bucket, Key=key, Body=data)
        else:
            _write_local(Path(local_path(uri)), data)


def list_uris(uri_prefix: str) -> list[str]:
    """The URIs of all files below a folder, sorted; none if there is no such folder."""
    with explain(uri_prefix, "list"):
        if is_remote(uri_prefix):
            bucket, _ = split_s3(uri_prefix)
            return sorted(f"s3://{bucket}/{key}" for key in _keys(uri_prefix) if not key.endswith("/"))
        found: list[str] = []
        for folder, _, names in os.walk(local_path(uri_prefix), onerror=_raise):
            found.extend(local_uri(f"{folder.rstrip('/')}/{name}") for name in names)
        return sorted(found)


def delete(uri: str) -> None:
    """Delete a file or a whole folder; nothing happens if there is none.

    Raises:
        StorageError: also for a whole bucket or the root of the disk, which are never meant.
    """
    with explain(uri, "delete"):
        if not is_remote(uri):
            path = Path(local_path(uri))
            if path == Path(path.anchor):
                raise StorageError(f"{uri}: will not delete the root of the disk; name a folder below it.")
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            return
        bucket, key = split_s3(uri)
        if not key.strip("/"):
            raise StorageError(f"{redact(uri)}: will not delete a whole bucket; name a folder below it.")
        doomed = [*_keys(uri), key.rstrip("/")]
        for first in range(0, len(doomed), PAGE_KEYS):
            request = {"Objects": [{"Key": each} for each in doomed[first : first + PAGE_KEYS]], "Quiet": True}
            answer = s3_client(uri).delete_objects(Bucket=bucket, Delete=request)
            for refusal in answer.get("Errors", ()):
                raise ClientError({"Error": refusal}, "DeleteObjects")


def copy_tree(source_uri: str, target_uri: str) -> None:
    """Copy a file or a folder of small files, such as a bundle, between any two places, file by file.

    Raises:
        StorageError: also when there is nothing to copy.
    """
    source, target = locate(source_uri).uri, locate(target_uri).uri
    files = list_uris(source)
    for uri in files:
        write_bytes(join(target, uri.removeprefix(source)), read_bytes(uri))
    if not files:
        write_bytes(target, read_bytes(source))


def delta_options(uri: str) -> dict[str, str] | None:
    """The `storage_options` with which deltalake reaches a URI; None for a local one.

    deltalake finds credentials in the environment and on cloud machines by itself. It does not read profiles: only then
    do the options hold the credentials, so hand them to deltalake and to nothing else.
    """
    if not is_remote(uri):
        return None
    s3 = _s3(uri)
    options = {
        "aws_region": s3.region,
        # Two commits of one version: the store itself refuses the second.
        "aws_conditional_put": "etag",
        "connect_timeout": f"{CONNECT_TIMEOUT_SECONDS}s",
        "timeout": "60s",
        "max_retries": str(ATTEMPTS - 1),
        "retry_timeout": "20s",
    }
    if s3.endpoint_url:
        options["aws_endpoint"] = s3.endpoint_url
        options["aws_allow_http"] = str(s3.endpoint_url.startswith("http://")).lower()
    if s3.credentials.method not in _DELTA_FINDS:
        known = s3.credentials.get_frozen_credentials()
        options |= {"aws_access_key_id": known.access_key, "aws_secret_access_key": known.secret_key}
        options |= {"aws_session_token": known.token} if known.token else {}
    return options


def s3_client(uri: str) -> Any:
    """This process's boto3 client for S3, safe to share between threads; `uri` is for the message if there is none."""
    return _s3(uri).client


def s3_ranges(uri: str) -> Any:
    """Obstore's view of the bucket of a URI, for reading ranges; safe to share between threads."""
    bucket, _ = split_s3(uri)
    connection = _s3(uri)
    return _ranges(bucket, connection)


TRACK_SILENCE_SECONDS: Final = 10
"""How long a store may say nothing in the middle of a track."""

TRACK_RETRIES: Final = 8
TRACK_RETRY_SECONDS: Final = 30
TRACK_WAIT_SECONDS: Final = 0.5
"""A request for a track is tried again so often, and not after so long; the waits grow from this one. So a busy store
has some ten seconds to recover, and a silent one is given up after 30 to 40."""


@functools.lru_cache(maxsize=64)
def _ranges(bucket: str, connection: _S3) -> Any:
    from obstore.store import S3Store

    def current() -> Any:
        frozen = connection.credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=5),
        }

    endpoint = connection.endpoint_url
    return S3Store(
        bucket,
        region=connection.region,
        endpoint=endpoint,
        credential_provider=current,
        virtual_hosted_style_request=endpoint is None,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_SECONDS),
            "read_timeout": timedelta(seconds=TRACK_SILENCE_SECONDS),
            # Of a whole request, of 16 MiB at most: for a store that is never silent but does not get on.
            "timeout": timedelta(minutes=5),
        },
        # The waits grow, by chance, so that a busy store's clients do not all come back at once.
        retry_config={
            "max_retries": TRACK_RETRIES,
            "retry_timeout": timedelta(seconds=TRACK_RETRY_SECONDS),
            "backoff": {"init_backoff": timedelta(seconds=TRACK_WAIT_SECONDS), "max_backoff": timedelta(seconds=8)},
        },
    )


def _s3(uri: str) -> _S3:
    """The connection for the present settings; made anew when a test or a notebook changes the AWS variables."""
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    with explain(uri, "reach"):
        # A client does not survive a fork, hence the process id.
        return _connect(settings, os.getpid())


@functools.lru_cache(maxsize=4)
def _connect(settings: tuple[tuple[str, str], ...], process_id: int) -> _S3:
    # Only a job that uses S3 pays the half second of this import.
    import boto3
    from botocore.config import Config

    session = boto3.session.Session()
    credentials = session.get_credentials()
    if credentials is None:
        raise NoCredentialsError
    region = session.region_name or "us-east-1"
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=64,
        # Stores other than Amazon's do not all know the newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        client = session.client("s3", region_name=region, config=config)
    except ValueError as error:
        raise OSError(f"{error} (AWS_ENDPOINT_URL)") from None
    ignoring: dict[str, Any] = {"ignore_configured_endpoint_urls": True}
    amazon = session.client("s3", region_name=region, config=Config(**ignoring))
    configured = client.meta.endpoint_url != amazon.meta.endpoint_url
    endpoint_url: str | None = client.meta.endpoint_url if configured else None
    scheme, _, host = (endpoint_url or "https://").partition("://")
    filesystem = pyarrow.fs.S3FileSystem(
        region=region,
        scheme=scheme,
        endpoint_override=host.rstrip("/") or None,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        request_timeout=READ_TIMEOUT_SECONDS,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_bucket_creation=False,
    )
    return _S3(client, credentials, filesystem, endpoint_url, region)


def _is_object(bucket: str, key: str) -> bool:
    try:
        s3_client(f"s3://{bucket}/{key}").head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error_code(error) in ("404", "NoSuchKey", "NotFound"):
            return False
        raise
    return True


def _keys(uri: str, limit: int | None = None) -> Iterator[str]:
    """The keys below a folder, `limit` at a time."""
    bucket, key = split_s3(uri)
    prefix = key.rstrip("/") + "/" if key.strip("/") else ""
    pages = s3_client(uri).get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": limit or PAGE_KEYS}):
        yield from (each["Key"] for each in page.get("Contents", ()))


def _write_local(path: Path, data: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            # A folder, or a device or pipe that the rename below would put a file in place of.
            raise IsADirectoryError(errno.EISDIR, "not a regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".mgc-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
