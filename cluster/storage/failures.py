"""Turn any storage failure into one clear line without credentials.

The operating system and boto3 report errors by number or code. pyarrow and deltalake only quote S3's answer as text.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from deltalake.exceptions import DeltaError, TableNotFoundError

from cluster.storage.redaction import CREDENTIALS_HINT, redact
from mgc.errors import StorageError

BAD_CREDENTIALS: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
"""S3 error codes after which no request with these credentials will succeed."""

_DENIED: Final = ("access is denied", f"give the credentials the right to it, or {CREDENTIALS_HINT}")
_UNSIGNED: Final = (
    "requests are not signed (AWS_SKIP_SIGNATURE); unset it and give credentials, or choose another place"
)
_NO_PAYER: Final = (
    "if its reader pays (AWS_REQUEST_PAYER), copy it: only music can be read from there, no tables; otherwise "
    + _DENIED[1]
)
_MISSING: Final = ("nothing is there", "check the path")
_FULL: Final = ("the disk is full", "free some space or choose another place")
_NO_CREDENTIALS: Final = ("no credentials were found", CREDENTIALS_HINT)
_REGION: Final = ("the bucket is in another region", "set AWS_REGION to the bucket's region")

_BY_CODE: Final = {
    "NoSuchBucket": ("the bucket does not exist", "create it or correct its name"),
    **dict.fromkeys(("NoSuchKey", "NotFound", "404", "ResourceNotFound", "PathNotFound"), _MISSING),
    **dict.fromkeys(("AccessDenied", "Forbidden", "403", "AllAccessDisabled", "AccountProblem"), _DENIED),
    **dict.fromkeys(("PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"), _REGION),
    **dict.fromkeys(("QuotaExceeded", "InsufficientStorage", "507"), ("the store is full", _FULL[1])),
    "InvalidObjectState": ("the object is archived", "restore it first"),
    **dict.fromkeys(BAD_CREDENTIALS, ("the store refuses the credentials", CREDENTIALS_HINT)),
}

_BY_ERRNO: Final = {
    errno.ENOENT: _MISSING,
    errno.EACCES: ("permission is denied", "change the permissions or choose another place"),
    errno.EPERM: ("permission is denied", "change the permissions or choose another place"),
    errno.EROFS: ("the file system is read-only", "choose another place"),
    errno.ENOSPC: _FULL,
    errno.EDQUOT: ("the disk quota is used up", _FULL[1]),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "check the path"),
    errno.EISDIR: ("it is a folder or a device, not a file", "check the path"),
    errno.EEXIST: ("something else is there already", "choose another place"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.ELOOP: ("symbolic links lead in a circle", "correct the links"),
}

_NO_ANSWER: Final = re.compile(
    r"NETWORK_CONNECTION|REQUEST_TIMEOUT|curlCode|connect error|\(Connect\)|error sending request|timed? ?out|dns error"
    r"|could not connect to the endpoint|connection was closed|connection (refused|reset)",
    re.IGNORECASE,
)
# The most reliable first: the body of the answer, pyarrow's name for it, the bare HTTP status.
_S3_CODES: Final = tuple(map(re.compile, (r"<Code>(\w+)</Code>", r"AWS Error (\w+)", r"\b(403|404|507) [A-Z]")))
_ERRNO: Final = re.compile(r"(?:errno |os error |Os \{ code: )(\d+)", re.IGNORECASE)
_NO_BUCKET: Final = re.compile(r"Bucket '[^']*' not found")


@contextlib.contextmanager
def explain(uri: object, doing: str) -> Iterator[None]:
    """Turn a storage error in the block into a StorageError of one line: what failed, where, and what to do.

    Other errors pass through. The original error is left out on purpose (`from None`): its text may quote the request
    with its signature.

    Args:
        uri: the place, for the message.
        doing: the verb, as in "cannot read s3://…".

    Raises:
        StorageError: boto3, pyarrow, deltalake or the operating system failed.
    """
    try:
        yield
    except (OSError, BotoCoreError, ClientError, DeltaError) as error:
        found = _reason(error)
        if found is None:
            raise
        reason, remedy = found
        raise StorageError(f"cannot {doing} {redact(str(uri))}: {reason}; {remedy}.") from None


def error_code(error: Exception) -> str:
    """Return the S3 error code of an exception of boto3, pyarrow or deltalake in S3's own spelling, or ""."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    matches = (pattern.search(str(error)) for pattern in _S3_CODES)
    code = next((match.group(1) for match in matches if match), "")
    # pyarrow writes NO_SUCH_BUCKET where S3 says NoSuchBucket.
    return "".join(word.capitalize() for word in code.split("_")) if code.isupper() else code


def _reason(error: Exception) -> tuple[str, str] | None:
    """Return what went wrong and what to do about it, or None for an error that is not storage's."""
    text = str(error)
    if isinstance(error, NoCredentialsError) or "169.254.169.254" in text:
        return _NO_CREDENTIALS
    # The operating system's number counts first. The rest searches texts, which may quote a file's name.
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno]
    code = error_code(error)
    if code in _BY_CODE:
        reason, remedy = _BY_CODE[code]
        if (reason, remedy) == _DENIED:
            remedy = _remedy_of_denial(error)
        return (reason if code.isdigit() else f"{reason} ({code})"), remedy
    if _NO_BUCKET.search(text):
        return _BY_CODE["NoSuchBucket"]
    if isinstance(error, ClientError):
        return f"the store answers {redact(code)}: {redact(text)[:200]}", "try again, or look into the store's log"
    match = _ERRNO.search(text)
    if match and int(match.group(1)) in _BY_ERRNO:
        return _BY_ERRNO[int(match.group(1))]
    if _NO_ANSWER.search(text):
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "the store"
        return f"no answer from {redact(endpoint)}", "check AWS_ENDPOINT_URL and the network, then try again"
    if isinstance(error, TableNotFoundError):
        return "no Delta table is there", "check the path"
    if isinstance(error, DeltaError):
        return None
    return redact(text)[:300] or type(error).__name__, "check the place and its settings"


def _remedy_of_denial(error: Exception) -> str:
    if os.environ.get("AWS_SKIP_SIGNATURE"):
        return _UNSIGNED
    # An OSError is pyarrow's, which never pays.
    return _NO_PAYER if os.environ.get("AWS_REQUEST_PAYER") and isinstance(error, OSError) else _DENIED[1]
