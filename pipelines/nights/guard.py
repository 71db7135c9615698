"""Stop a run before it makes the table worse: canaries before the stream, the guard before the commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.labels.beside.run_folder import RunFolder
from cluster.labels.canaries import choose_canaries
from cluster.labels.outlook import foresee
from cluster.labels.plan import PLAN, Plan
from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from cluster.streams.canary import hear_canaries
from cluster.streams.listening import ListenRequest
from mgc.errors import StorageError, cause
from mgc.labeling.canary import refuse_canaries
from mgc.labeling.guard import BY_PLAN, CANARY, Breach, GuardLimits, find_breaches
from mgc.labeling.rows import Lineage
from mgc.units import format_count
from pipelines.command.job import say
from pipelines.models.graphs import graph_for
from pipelines.nights.plan import Night


@dataclass(frozen=True)
class Guard:
    """The guard of a run.

    Attributes:
        limits: limits of its checks.
        accepted: names of checks that a person has accepted.
    """

    limits: GuardLimits
    accepted: tuple[str, ...]

    def foresee_plan(self, night: Night) -> list[Breach]:
        """Return why the run stops before it hears anything: too many tracks have left the catalog, or corrections."""
        if not night.plan.removed.num_rows and not night.plan.recorrected.num_rows:
            return []
        return [breach for breach in self.foresee_commit(night, night.plan) if breach.name in BY_PLAN]

    def hears_again(self, run: RunFolder) -> bool:
        """Return whether a run was stopped for what it heard, and nobody has accepted that."""
        why = run.refused_for()
        # A run that an older mgc stopped does not say why.
        return why is not None and not (why <= set(self.accepted) if why else self.accepted)

    def hear_canaries(self, night: Night, profile: Profile) -> list[Breach]:
        """Hear some tracks whose labels are known. Returns why the run stops."""
        if CANARY in self.accepted or not night.table.exists:
            return []
        bundle = night.bundle
        ids = (bundle.id, bundle.features_id)
        with night.table.reading_beside_catalog():
            tracks, known = choose_canaries(night.tracks, night.table.dataset(), *ids)
        if not known:
            return []
        say(f"hearing {format_count(len(known), 'canary', 'canaries')} first")
        # The rows come from memory, so the request names no plan.
        request = ListenRequest(None, tracks.num_rows, PLAN, bundle.hearing)
        try:
            graph = graph_for(bundle, profile)
            answers = hear_canaries(request, tracks, bundle, Lineage(*ids, CANARY), profile, graph)
            reason = refuse_canaries(known, answers)
        except StorageError as error:
            # The store refuses everything. Ray's error for a task is also one of the task's own class.
            reason = f"tracks with a label could not be heard again: {cause(error) or error}"
        return [] if reason is None else [Breach(CANARY, len(known), len(known), 0.0, reason)]

    def foresee_commit(self, night: Night, plan: Plan) -> list[Breach]:
        """Return why the run stops before its commit, as far as its staged rows tell.

        Args:
            night: the night.
            plan: its plan, without the tracks that the run did not reach.
        """
        with night.table.joined(plan) as connection:
            outlook = foresee(connection, plan)
        return find_breaches(outlook, self.limits, self.accepted)


def describe_refusal(breaches: Sequence[Breach], labels: Uri, report: Uri | None) -> str:
    """Return one line: why the run stopped, and what to do.

    Args:
        breaches: why the run stopped.
        labels: folder of the labels table.
        report: report of the refused run; None if it could not be written.
    """
    reasons = "; ".join(breach.message for breach in breaches)
    accept = " ".join(f"--accept {breach.name}" for breach in breaches)
    look = "" if report is None else f" Look at {report}."
    return (
        f"{labels}: stopped before the commit, the table is unchanged: {reasons}.{look} Fix the cause and run again, "
        f"or add {accept} to commit what is staged."
    )
