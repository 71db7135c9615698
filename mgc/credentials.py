"""Removal of credentials from text. Only this module knows what a credential in a URI looks like."""

from __future__ import annotations

import re
from typing import Final

# The second form is a password with a slash, as Amazon's secrets may have; a port is not a password.
_USERINFO: Final = re.compile(r"(?<=://)(?:[^/\s]*|[^/\s@:]*:(?!\d+/)[^\s@]*)@")
_SECRET_PARAMETER: Final = re.compile(
    r"([?&](?:[\w-]*(?:secret|passw(?:or)?d|token|credential|signature|access[_-]?key|api[_-]?key)[\w-]*|sig))"
    r"=[^&\s\"']*",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """Return a text without the `user:password@` of its URIs and without the values of parameters that name a secret.

    Such a value is shown as `***`. Paths stay as they are: an `@` or a `?` in a name is not a credential.
    """
    return _SECRET_PARAMETER.sub(r"\1=***", _USERINFO.sub("", text))
