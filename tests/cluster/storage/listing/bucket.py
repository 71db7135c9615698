"""S3's rules for a listing, without a store."""

from __future__ import annotations

import io
import random
import threading
import time
from typing import Any

from botocore.exceptions import ClientError


class Bucket:
    """S3's rules for a listing, over keys in memory; each request leaves its thread, so that threads mix."""

    def __init__(self, keys: set[str]) -> None:
        self.keys = sorted(keys)
        self.meta = self
        self.events = self
        self.asked: list[dict[str, Any]] = []

    def register(self, *arguments: Any, **options: Any) -> None:
        pass

    def list_objects_v2(
        self,
        Prefix: str,
        MaxKeys: int,
        Bucket: str = "b",
        Delimiter: str | None = None,
        StartAfter: str = "",
        ContinuationToken: str | None = None,
    ) -> dict[str, Any]:
        self.asked.append({"thread": threading.get_ident(), "MaxKeys": MaxKeys})
        time.sleep(random.random() / 20_000)
        after = StartAfter if ContinuationToken is None else ContinuationToken
        contents: list[dict[str, Any]] = []
        folders: list[str] = []
        last = ""

        def page(**more: Any) -> dict[str, Any]:
            return {"Contents": contents, "CommonPrefixes": [{"Prefix": each} for each in folders], **more}

        for key in self.keys:
            if key <= after or not key.startswith(Prefix):
                continue
            below, slash, _ = key[len(Prefix) :].partition(Delimiter or "/")
            if Delimiter and slash and folders[-1:] == [Prefix + below + slash]:
                continue
            if len(contents) + len(folders) == MaxKeys:
                return page(IsTruncated=True, NextContinuationToken=last)
            last = key
            if Delimiter and slash:
                folders.append(Prefix + below + slash)
            else:
                contents.append({"Key": key, "Size": len(key), "ETag": f'"{abs(hash(key)):x}"'})
        return page(IsTruncated=False)

    def get_object(self, Bucket: str, Key: str, Range: str) -> dict[str, Any]:
        """Objects without an extension begin like audio if their key has an `a`; one with a `b` is refused."""
        if "b" in Key:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject")
        return {"Body": io.BytesIO(b"fLaC" + bytes(40) if "a" in Key else b"\x00\x01text")}

    def get_paginator(self, name: str) -> Any:
        assert name == "list_objects_v2"
        return self

    def paginate(self, Bucket: str, Prefix: str, PaginationConfig: dict[str, int]) -> Any:
        yield self.list_objects_v2(Prefix, len(self.keys) + 1)
