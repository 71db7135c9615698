"""`mgc label CATALOG-or-SOURCE --labels URI`: label every track that is new or changed, in one commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import click

from cluster.storage.uri import Uri
from mgc.errors import ConfigError
from mgc.evaluation.alarms import THRESHOLDS, thresholds
from mgc.labeling.guard import ACCEPTABLE, LIMITS, guard_limits
from pipelines.command.job import Summary, main
from pipelines.command.options import MAX_FILE, PROFILE, URI
from pipelines.nights.options import UNTIL, night_options
from pipelines.nights.requests import LabelRequest, NightRequest


def _named(read: Callable[[Mapping[str, str]], object]) -> Callable[..., dict[str, str]]:
    """Return a callback that turns NAME=VALUE into values by name, after `read` has accepted them."""

    def values(ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
        found: dict[str, str] = {}
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not equals:
                raise click.BadParameter(f"{pair!r} has no value; write NAME=VALUE.", ctx, param)
            found[name] = value
        try:
            read(found)
        except ConfigError as error:
            raise click.BadParameter(str(error), ctx, param) from None
        return found

    return values


@click.command("label")
@night_options()
@UNTIL
@PROFILE
@click.option(
    "--alarm",
    "alarms",
    multiple=True,
    callback=_named(thresholds),
    metavar="NAME=VALUE",
    help=f"Threshold of one of the alarms, for example quarantined=0.1. NAME is one of {', '.join(THRESHOLDS)}. A "
    "threshold that you set holds however few the tracks are.",
)
@click.option(
    "--guard",
    "guard",
    multiple=True,
    callback=_named(guard_limits),
    metavar="NAME=VALUE",
    help=f"Limit of one of the guard's checks, for example removed=0.2. NAME is one of {', '.join(LIMITS)}.",
)
@click.option(
    "--accept",
    multiple=True,
    type=click.Choice(ACCEPTABLE),
    help="Commit although this check of the guard stopped the run. Staged tracks are not heard again.",
)
@click.option(
    "--embeddings",
    type=URI,
    help="Also keep the embeddings of the tracks in this folder, as `mgc embed` does. No track is heard twice for it.",
)
@MAX_FILE
@click.option("--dry-run", is_flag=True, help="Print the configuration, the plan and what it would take.")
@click.option(
    "--check",
    is_flag=True,
    help="Check the options, the bundle and the corrections, and do nothing else. The catalog need not be there yet.",
)
def command(
    night: NightRequest,
    until: datetime | None,
    profile: str | None,
    alarms: Mapping[str, str],
    guard: Mapping[str, str],
    accept: tuple[str, ...],
    embeddings: Uri | None,
    max_file_gib: int,
    dry_run: bool,
    check: bool,
) -> Summary:
    """Label the tracks of a catalog (or of SOURCE, listed now) that are new, changed or labelled by another model.

    The labels table changes in one commit at the end. If the job is killed, start it again: it continues where it
    stopped. A track that fails keeps its label, marked as stale.

    A guard looks at the changes before the commit. If too many labels would become stale, be removed or change, the
    run stops, and the table stays as it is. Fix the cause and run again, or commit what is staged with `--accept`.

    Exit code 0: done; 3: done, and the report has alarms; 4: stopped by the guard; 1: failed. After 4 and 1 the table
    is unchanged.
    """
    request = LabelRequest(night, profile, until, alarms, guard, accept, dry_run, max_file_gib, embeddings, check)
    from pipelines.nights.label import label

    return label(request)


if __name__ == "__main__":
    main(command)
