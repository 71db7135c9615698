"""Tell the user about something that went wrong and did not stop the job."""

from __future__ import annotations

import sys

from cluster.storage.redaction import redact


def notice(line: str) -> None:
    """Print a line on stderr. A logger would be silent where another library has set logging up."""
    print(redact(line), file=sys.stderr, flush=True)
