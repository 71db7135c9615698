"""`mgc doctor`: what this machine or cluster has, what would not work on it, and what to do."""

from __future__ import annotations

import click

from cluster.session.profiles import PROFILES
from cluster.storage.uri import Uri
from pipelines.command.job import Summary, main
from pipelines.command.options import URI


def _check_recipe(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """Return the name of a recipe. The recipes import PyTorch, so they are asked only about a name."""
    if name is not None:
        from mgc.recipes.catalogue import RECIPES

        if name not in RECIPES:
            raise click.BadParameter(f"there is no recipe {name!r}; `mgc recipes` lists them.", ctx, param)
    return name


@click.command("doctor")
@click.option("--address", help="Address of a Ray cluster. The default is RAY_ADDRESS, or else this machine alone.")
@click.option("--uri", "uris", type=URI, multiple=True, help="Folder or s3:// place to read; may be repeated.")
@click.option("--profile", type=click.Choice(list(PROFILES)), help="Profile that must fit.")
@click.option("--recipe", metavar="RECIPE", callback=_check_recipe, help="Recipe that must fit.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Training workers that must fit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")
def command(
    address: str | None, uris: tuple[Uri, ...], profile: str | None, recipe: str | None, workers: int, as_json: bool
) -> Summary:
    """Print what this machine or cluster has, what would not work on it, and what to do: one line each.

    ok: works. --: missing, which matters only if you want it. !!: would not work. Exit code 0: usable; 3: see the !!.
    """
    from pipelines.machines.diagnosis import DiagnosisRequest, diagnose

    return diagnose(DiagnosisRequest(address, uris, profile, recipe, workers, as_json))


if __name__ == "__main__":
    main(command)
