"""Connections of this process to S3.

boto3 makes requests, pyarrow reads Parquet, obstore reads ranges, and deltalake gets options. boto3 finds endpoint,
region, credentials and certificates (AWS_CA_BUNDLE) in the usual AWS variables and profile; the others get the same.
None of them comes from a URI. AWS_SKIP_SIGNATURE and AWS_REQUEST_PAYER are variables of obstore and deltalake, for
buckets that are public and for those whose reader pays.
"""

from __future__ import annotations

import functools
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.fs
from botocore.exceptions import NoCredentialsError

from cluster.storage.boto_types import Credentials, S3Client
from cluster.storage.failures import explain
from cluster.storage.redaction import redact
from mgc.errors import StorageError

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest

    # Only a job that reads ranges makes this import.
    from obstore.store import S3Credential, S3Store

CONNECT_TIMEOUT_SECONDS: Final = 5
READ_TIMEOUT_SECONDS: Final = 20

ATTEMPTS: Final = 3
"""Tries of one request, the first included. Three connection attempts without an answer end within 20 s."""

TRACK_SILENCE_SECONDS: Final = 10
"""Longest silence of a store in the middle of a track."""

TRACK_RETRIES: Final = 8
"""Further tries of a request for a track. Their waits grow, so a busy store has some ten seconds to recover."""

TRACK_RETRY_SECONDS: Final = 30
"""Time after which no further try starts. A silent store fails after 30 to 40 s."""

TRACK_WAIT_SECONDS: Final = 0.5
"""The first wait before a further try."""

_DELTA_FINDS: Final = frozenset({"env", "iam-role", "container-role", "assume-role-with-web-identity"})
"""botocore's names for the sources of credentials that deltalake also checks."""


_UNSIGNED: Final = "AWS_SKIP_SIGNATURE"
_PAYER: Final = "AWS_REQUEST_PAYER"
_WORDS: Final = {
    **dict.fromkeys(("1", "true", "on", "yes", "y"), True),
    **dict.fromkeys(("", "0", "false", "off", "no", "n"), False),
}
"""What deltalake takes for yes and no; it fails at any other word."""


@dataclass(frozen=True, eq=False)
class Connection:
    """One process's way to S3.

    Attributes:
        client: boto3's client, safe to share between threads.
        credentials: credentials that sign its requests; None if they are not signed.
        filesystem: pyarrow's filesystem.
        endpoint_url: address of a store that is not Amazon's; None for Amazon's.
        region: region of the buckets.
        certificates: file of the authorities to trust, in PEM; None for the system's own.
        pays: whether it pays for its requests. pyarrow never does.
    """

    client: S3Client
    credentials: Credentials | None
    filesystem: pyarrow.fs.S3FileSystem
    endpoint_url: str | None
    region: str
    certificates: Path | None
    pays: bool


def connection(where: object) -> Connection:
    """Return the connection for the present settings; a changed AWS variable gives a new one.

    Args:
        where: the requested place, for error messages.

    Raises:
        StorageError: there are no credentials, the endpoint is no URL, the certificates cannot be read, or a setting
            is neither yes nor no.
    """
    for name in (_UNSIGNED, _PAYER):
        if os.environ.get(name, "").lower() not in _WORDS:
            raise StorageError(f"{redact(str(where))}: {name} is neither true nor false; set it to true, or unset it.")
    settings = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    with explain(where, "reach"):
        # A client does not survive a fork, hence the process id.
        return _connect(settings, os.getpid())


def client(where: object) -> S3Client:
    """Return boto3's client, safe to share between threads. `where` is for error messages."""
    return connection(where).client


def ranges(bucket: str, where: object) -> S3Store:
    """Return obstore's view of a bucket, for reading ranges; safe to share between threads."""
    return _ranges(bucket, connection(where))


def storage_options(where: object) -> dict[str, str]:
    """Return the `storage_options` with which deltalake reaches S3.

    deltalake finds credentials in the environment and on cloud machines, but does not read profiles. With a profile,
    the options hold the credentials, so pass them to deltalake only.
    """
    s3 = connection(where)
    options = {
        "aws_region": s3.region,
        # When two writers commit the same version, the store refuses the second.
        "aws_conditional_put": "etag",
        "connect_timeout": f"{CONNECT_TIMEOUT_SECONDS}s",
        "timeout": "60s",
        "max_retries": str(ATTEMPTS - 1),
        "retry_timeout": "20s",
    }
    if s3.endpoint_url:
        options["aws_endpoint"] = s3.endpoint_url
        options["aws_allow_http"] = str(s3.endpoint_url.startswith("http://")).lower()
    if s3.certificates:
        # deltalake has no option for it, and reads these when it connects. Other programs then trust them as well.
        os.environ.setdefault("SSL_CERT_FILE", str(s3.certificates))
        os.environ.setdefault("SSL_CERT_DIR", ssl.get_default_verify_paths().openssl_capath)
    if s3.pays:
        options["aws_request_payer"] = "true"
    if s3.credentials is None:
        options["aws_skip_signature"] = "true"
    elif s3.credentials.method not in _DELTA_FINDS:
        known = s3.credentials.get_frozen_credentials()
        options |= {"aws_access_key_id": known.access_key, "aws_secret_access_key": known.secret_key}
        options |= {"aws_session_token": known.token} if known.token else {}
    return options


@functools.lru_cache(maxsize=64)
def _ranges(bucket: str, connection: Connection) -> S3Store:
    from obstore.store import S3Store

    credentials, endpoint = connection.credentials, connection.endpoint_url
    return S3Store(
        bucket,
        region=connection.region,
        endpoint=endpoint,
        credential_provider=None if credentials is None else functools.partial(_current, credentials),
        skip_signature=credentials is None,
        request_payer=connection.pays,
        virtual_hosted_style_request=endpoint is None,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_SECONDS),
            "read_timeout": timedelta(seconds=TRACK_SILENCE_SECONDS),
            # This limits a whole request of at most 16 MiB, because a store may trickle without ever falling silent.
            "timeout": timedelta(minutes=5),
            **({"root_certificate": connection.certificates.read_bytes()} if connection.certificates else {}),
        },
        # The waits grow by random amounts, so that the clients of a busy store do not all come back at once.
        retry_config={
            "max_retries": TRACK_RETRIES,
            "retry_timeout": timedelta(seconds=TRACK_RETRY_SECONDS),
            "backoff": {"init_backoff": timedelta(seconds=TRACK_WAIT_SECONDS), "max_backoff": timedelta(seconds=8)},
        },
    )


def _current(credentials: Credentials) -> S3Credential:
    """Return credentials as obstore takes them."""
    frozen = credentials.get_frozen_credentials()
    return {
        "access_key_id": frozen.access_key,
        "secret_access_key": frozen.secret_key,
        "token": frozen.token,
        "expires_at": datetime.now(UTC) + timedelta(minutes=5),
    }


@functools.lru_cache(maxsize=4)
def _connect(settings: tuple[tuple[str, str], ...], process_id: int) -> Connection:
    # This import takes half a second, so only a job that uses S3 makes it.
    import boto3
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    core = botocore.session.get_session()
    session = boto3.session.Session(botocore_session=core)
    named: str | None = core.get_config_variable("ca_bundle")
    certificates = Path(named).absolute() if named else None
    if certificates is not None:
        certificates.stat()
    unsigned, pays = (_WORDS[os.environ.get(name, "").lower()] for name in (_UNSIGNED, _PAYER))
    credentials: Credentials | None = None if unsigned else session.get_credentials()
    if credentials is None and not unsigned:
        raise NoCredentialsError
    region = session.region_name or "us-east-1"
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=64,
        # Some other stores do not know Amazon's newer checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **({"signature_version": UNSIGNED} if unsigned else {}),
    )
    try:
        client: S3Client = session.client("s3", region_name=region, config=config)
    except ValueError as error:
        raise OSError(f"{error} (AWS_ENDPOINT_URL)") from None
    if pays:
        client.meta.events.register("before-sign.s3", _pay)
    amazon: S3Client = session.client("s3", region_name=region, config=Config(ignore_configured_endpoint_urls=True))
    configured = client.meta.endpoint_url != amazon.meta.endpoint_url
    endpoint_url = client.meta.endpoint_url if configured else None
    scheme, _, host = (endpoint_url or "https://").partition("://")
    filesystem = pyarrow.fs.S3FileSystem(
        region=region,
        scheme=scheme,
        endpoint_override=host.rstrip("/") or None,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        request_timeout=READ_TIMEOUT_SECONDS,
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_bucket_creation=False,
        tls_ca_file_path=None if certificates is None else str(certificates),
        anonymous=unsigned,
    )
    return Connection(client, credentials, filesystem, endpoint_url, region, certificates, pays)


def _pay(request: AWSRequest, **_: object) -> None:
    """Consent to pay for a request of boto3, before it is signed."""
    request.headers["x-amz-request-payer"] = "requester"
