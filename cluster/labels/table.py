"""The labels table: a table of runs whose rows curators correct, and whose rollbacks hold changes back."""

from __future__ import annotations

import logging
from typing import ClassVar

import duckdb
import pyarrow as pa

from cluster.labels.beside.holds import list_holds, read_holds, release_holds, settle_holds
from cluster.labels.overrides import OVERRIDES, corrections_in, with_corrections
from cluster.labels.plan import Plan
from cluster.labels.policy import Policy
from cluster.labels.runs.format import LABELS, Format
from cluster.labels.runs.table import RunTable
from mgc.errors import StorageError


class LabelsTable(RunTable):
    """The labels table under a URI. See `RunTable`."""

    form: ClassVar[Format] = LABELS

    def forget_holds(self, before: int | None = None) -> None:
        """Forget what rollbacks undid. Logs a failure, since what the run had to do is done.

        Args:
            before: version of the commit that entered it again; by default the next one. Later rollbacks stay held.
        """
        try:
            release_holds(self.uri, self.version + 1 if before is None else before)
        except StorageError as error:
            logging.getLogger(__name__).warning("What rollbacks undid could not be forgotten: %s", error)

    def _held(self, policy: Policy) -> pa.Table | None:
        """Return what rollbacks undid and the plan has to leave out; None for nothing."""
        if policy.resume or self._table is None or not list_holds(self.uri):
            return None
        return read_holds(self.uri, self._table.history())

    def _prepare(self) -> None:
        if self._table is not None:
            settle_holds(self.uri, self._table.history)

    def _settle(self, plan: Plan, version: int) -> None:
        if plan.policy.resume:
            self.forget_holds(version)

    def _join_more(self, connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
        """Add all corrections of the table as `corrections`, and those that apply as `overriding`."""
        connection.register("corrections", with_corrections(self._rows()))
        connection.register("overriding", self._overriding(plan))

    def _overriding(self, plan: Plan) -> pa.Table:
        """Return the corrections that apply: those of the given file or, without one, those of the table."""
        if plan.policy.overrides is not None:
            return plan.policy.overrides.cast(OVERRIDES)
        return corrections_in(self._rows())
