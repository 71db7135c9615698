"""`mgc demo`, `make demo`: every job in turn on a synthetic corpus, on this machine."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from pipelines.command.job import Summary, main
from pipelines.command.options import OVERRIDES, URI, overrides


@click.command("demo", context_settings=OVERRIDES)
@click.option("--out", type=URI, default="demo", show_default=True, help="Folder of everything that the jobs write.")
@click.option("--limit", type=click.IntRange(1), help="Take only the first N tracks of the corpus.")
@click.option("--dry-run", is_flag=True, help="Print the configuration.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(out: Uri, limit: int | None, dry_run: bool, fields: tuple[str, ...]) -> Summary:
    """Run every job in turn on a synthetic corpus: make MP3s, catalog, prepare, train, evaluate, label.

    Set any field of the recipe by its dotted name, for example --training.epochs 3.
    """
    changes = overrides(fields)
    if out.is_remote:
        raise click.BadParameter(f"{out} is no folder of this machine.", param_hint="--out")

    from pipelines.walkthrough.demo import DemoRequest, run_demo

    return run_demo(DemoRequest(out, limit, changes, dry_run))


if __name__ == "__main__":
    main(command)
