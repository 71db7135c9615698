"""Make text safe to show: no credentials, no line breaks. Imports nothing heavy, so parsing a URI stays cheap."""

from __future__ import annotations

import os
import re
from typing import Final

from mgc.credentials import without_credentials

CREDENTIALS_HINT: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) to valid ones"

_SECRET_VARIABLES: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_ACCESS_KEY_ID")


def redact(text: str) -> str:
    """Return a message on one line and without credentials, including those in the environment."""
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= 8:
            text = text.replace(value, "***")
    return one_line(without_credentials(text))


def one_line(text: str) -> str:
    """Return a text without line breaks, colours and characters that cannot be shown."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "".join(c if c.isprintable() else " " if c.isspace() else f"\\x{ord(c):02x}" for c in plain)
