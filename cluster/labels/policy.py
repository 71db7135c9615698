"""What a night does beyond labelling new and changed tracks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    # The command line reads `GONE`, and a `--help` has no use for pyarrow.
    import pyarrow as pa

Gone = Literal["keep", "mark", "prune"]
"""What happens to the row of a track that left the catalog: it stays, gets a `removed_at`, or is deleted."""

GONE: Final[tuple[Gone, ...]] = get_args(Gone)


@dataclass(frozen=True)
class Policy:
    """What a night does beyond labelling new and changed tracks.

    Attributes:
        gone: what happens to rows whose track is no longer in the catalog.
        retry_all: whether to retry every quarantined track, whatever its error and number of tries.
        overrides: a curator's corrections (`OVERRIDES`), which replace those in the table. None keeps those in the
            table.
    """

    gone: Gone = "mark"
    retry_all: bool = False
    overrides: pa.Table | None = None

    def facts(self) -> dict[str, str | bool | None]:
        """Return what determines a plan, as JSON-ready values."""
        digest = None
        if self.overrides is not None:
            digest = hashlib.sha256(repr(self.overrides.to_pylist()).encode()).hexdigest()
        return {"gone": self.gone, "retry_all": self.retry_all, "overrides": digest}
