"""Policy of a night: what it does beyond labelling new and changed tracks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    # The command line reads `GONE`, and `--help` must not import pyarrow.
    import pyarrow as pa

Gone = Literal["keep", "mark", "prune"]
"""Treatment of the row of a track that left the catalog: keep it, set its `removed_at`, or delete it."""

GONE: Final[tuple[Gone, ...]] = get_args(Gone)


@dataclass(frozen=True)
class Policy:
    """Actions of a night beyond labelling new and changed tracks.

    Attributes:
        gone: treatment of rows whose track is no longer in the catalog.
        retry_all: whether to retry every quarantined track, regardless of its error and number of tries.
        overrides: a curator's corrections (`OVERRIDES`), which replace those in the table. None keeps those in the
            table.
        resume: whether to enter again what rollbacks undid.
    """

    gone: Gone = "mark"
    retry_all: bool = False
    overrides: pa.Table | None = None
    resume: bool = False

    def facts(self) -> dict[str, str | bool | None]:
        """Return the policy as JSON-ready values, for the key of a plan."""
        digest = None
        if self.overrides is not None:
            digest = hashlib.sha256(repr(self.overrides.to_pylist()).encode()).hexdigest()
        return {"gone": self.gone, "retry_all": self.retry_all, "overrides": digest, "resume": self.resume}
