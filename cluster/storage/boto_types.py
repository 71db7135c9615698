"""Types for the boto3 calls that mgc uses, and for their answers. boto3 has no types of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import IO, NotRequired, Protocol, TypedDict


class ListedObject(TypedDict):
    """One key of a listing."""

    Key: str
    Size: int
    ETag: str


class Folder(TypedDict):
    """A common prefix of keys, up to the delimiter."""

    Prefix: str


class Page(TypedDict, total=False):
    """One answer of `list_objects_v2`."""

    Contents: list[ListedObject]
    CommonPrefixes: list[Folder]
    IsTruncated: bool
    NextContinuationToken: str


class Body(Protocol):
    """The body of an answer."""

    def read(self) -> bytes:
        """Read the rest."""

    def close(self) -> None:
        """Release the connection."""


class ObjectHead(TypedDict):
    """Facts that S3 returns about an object."""

    ContentLength: int
    ETag: str
    ContentRange: NotRequired[str]


class ObjectAnswer(ObjectHead):
    """An object, or a range of it."""

    Body: Body


class Refusal(TypedDict, total=False):
    """Reason why one of several objects was not deleted."""

    Code: str
    Key: str
    Message: str


class DeleteAnswer(TypedDict, total=False):
    """The answer to `delete_objects`."""

    Errors: list[Refusal]


class Pages(Protocol):
    """boto3's paginator."""

    def paginate(self, *, Bucket: str, Prefix: str, PaginationConfig: Mapping[str, int]) -> Iterable[Page]:
        """Ask for page after page."""


class Events(Protocol):
    """boto3's hooks."""

    def register(self, event_name: str, handler: object, unique_id: str | None = None) -> None:
        """Call `handler` at an event; a second registration of the same id does nothing."""


class ClientMeta(Protocol):
    """Facts of boto3's client about itself."""

    @property
    def events(self) -> Events:
        """Hooks of the client."""

    @property
    def endpoint_url(self) -> str:
        """Address to which it sends requests."""


class S3Client(Protocol):
    """boto3's client for S3.

    Each call raises botocore's `ClientError` or `BotoCoreError`.
    """

    @property
    def meta(self) -> ClientMeta:
        """Hooks and endpoint."""

    def list_buckets(self) -> Mapping[str, object]:
        """List the buckets of the credentials."""

    def list_objects_v2(self, *, Bucket: str, **arguments: str | int) -> Page:
        """List a page of keys."""

    def get_paginator(self, operation_name: str) -> Pages:
        """Return the paginator of an operation."""

    def head_object(self, *, Bucket: str, Key: str) -> ObjectHead:
        """Look an object up."""

    def get_object(self, *, Bucket: str, Key: str, **arguments: str) -> ObjectAnswer:
        """Read an object, or a `Range` of it."""

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **arguments: str) -> object:
        """Write an object, with `IfNoneMatch="*"` only if there is none yet."""

    def upload_fileobj(self, file: IO[bytes], bucket: str, key: str) -> None:
        """Write an object in parts of 8 MiB. It appears when all parts are there."""

    def delete_objects(self, *, Bucket: str, Delete: Mapping[str, object]) -> DeleteAnswer:
        """Delete up to a thousand objects."""


class FrozenCredentials(Protocol):
    """Credentials at one moment."""

    @property
    def access_key(self) -> str:
        """The public half."""

    @property
    def secret_key(self) -> str:
        """The secret half."""

    @property
    def token(self) -> str | None:
        """The token of temporary credentials."""


class Credentials(Protocol):
    """botocore's credentials. Temporary ones renew themselves."""

    @property
    def method(self) -> str:
        """Name of the source where botocore found them."""

    def get_frozen_credentials(self) -> FrozenCredentials:
        """Return the credentials that are valid now."""
