"""HTTP messages as a proxy sees them: heads, bodies, and signatures of S3 (AWS Signature Version 4)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple


class Keys(NamedTuple):
    """What a client signs with."""

    access_key: str
    secret_key: str
    region: str


class Body(NamedTuple):
    """How the end of a body is known: by its length, by chunks, or (neither) by the end of the connection."""

    length: int | None
    chunked: bool = False

    def read(self, stream: BinaryIO) -> Iterator[bytes]:
        """The body as it stands on the wire."""
        if self.chunked:
            size = -1
            while size:
                line = stream.readline()
                size = int(line.partition(b";")[0], 16)
                yield line + stream.read(size) + stream.readline()
            return
        left = self.length
        while left is None or left > 0:
            data = stream.read1(65536 if left is None else min(left, 65536))  # type: ignore[attr-defined]
            if not data:
                return
            left = None if left is None else left - len(data)
            yield data


def read_head(stream: BinaryIO) -> bytes:
    """The first line and the headers, with the empty line; b"" at the end of the connection."""
    lines: list[bytes] = []
    while line := stream.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def body_of(headers: dict[str, str], otherwise: int | None) -> Body:
    """How the end of a message's body is known; `otherwise` is its length where the headers do not say."""
    length = headers.get("content-length")
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    return Body(otherwise if length is None else int(length), chunked)


def without_header(head: bytes, header: str) -> bytes:
    """The first line and the headers, without one of them."""
    return re.sub(rb"(?im)^" + header.encode() + rb":.*\r\n", b"", head)


def sign_without(head: bytes, name: str, keys: Keys) -> bytes:
    """The first line and the headers of a signed request, without one of them, and with a signature that is right."""
    head = without_header(head, name)
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines if line)}
    signed = re.search(r"SignedHeaders=([^,]+)", headers["authorization"])
    assert signed is not None
    names = [each for each in signed[1].split(";") if each != name.lower()]
    method, target = first.split(" ")[:2]
    path, _, query = target.partition("?")
    parts = sorted(part if "=" in part else f"{part}=" for part in query.split("&") if part)
    stated = [f"{each}:{headers[each]}" for each in names]
    canonical = "\n".join(
        [method, path, "&".join(parts), *stated, "", ";".join(names), headers["x-amz-content-sha256"]]
    )
    moment = headers["x-amz-date"]
    scope = f"{moment[:8]}/{keys.region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    said = f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={';'.join(names)}"
    line = f"Authorization: {said}, Signature={signature}\r\n"
    return re.sub(rb"(?im)^authorization:.*\r\n", line.encode(), head)
