"""Text that is safe to show: no credentials, no line breaks. Imports nothing heavy: parsing a URI must stay cheap."""

from __future__ import annotations

import os
import re
from typing import Final

CREDENTIALS_HINT: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) to valid ones"

# The second form is a password with a slash in it, as Amazon's secrets may have; a port is no password.
_USERINFO: Final = re.compile(r"(?<=://)(?:[^/\s@]*|[^/\s@:]*:(?!\d+/)[^\s@]*)@")
_SECRET_PARAMETER: Final = re.compile(
    r"([?&](?:[\w-]*(?:secret|passw(?:or)?d|token|credential|signature|access[_-]?key|api[_-]?key)[\w-]*|sig))"
    r"=[^&\s\"']*",
    re.IGNORECASE,
)
_SECRET_VARIABLES: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_ACCESS_KEY_ID")


def redact(text: str) -> str:
    """Return a message on one line, without `user:password@` and without the values of parameters that hold secrets."""
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= 8:
            text = text.replace(value, "***")
    return one_line(_SECRET_PARAMETER.sub(r"\1=***", _USERINFO.sub("", text)))


def one_line(text: str) -> str:
    """Return a text without line breaks, colours and characters that cannot be shown."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "".join(c if c.isprintable() else " " if c.isspace() else f"\\x{ord(c):02x}" for c in plain)
