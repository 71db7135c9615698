"""`mgc pull NAME`: make a bundle of a public model that others trained and published."""

from __future__ import annotations

import re

import click

from cluster.storage.uri import Uri
from mgc.bundle_names import BEST_FIRST, BundleName
from pipelines.command.job import Summary, main
from pipelines.command.options import URI
from pipelines.models.requests import PullRequest


class _Name(click.Choice[str]):
    """Name of a public model; the two other names of bundles get an answer of their own."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        if value == BundleName.DEFAULT:
            self.fail(
                f"default is the best bundle that is there; `mgc pull {BEST_FIRST[0]}` gets the best.", param, ctx
            )
        if value == BundleName.SHIPPED:
            self.fail("the shipped bundle is part of mgc, so there is nothing to pull.", param, ctx)
        return super().convert(value, param, ctx)


_NAMES = _Name([name.value for name in BundleName if name.is_public])


def _check_sha256(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise click.BadParameter(f"{text!r} is no SHA-256; write its 64 hexadecimal digits.", ctx, param)
    return None if text is None else text.lower()


@click.command("pull")
@click.argument("name", type=_NAMES)
@click.option(
    "--from", "file", type=URI, metavar="FILE", help="The published file, if it is at hand; nothing is fetched."
)
@click.option("--out", type=URI, help="Folder of the bundle, also s3://. The default is its place in your cache.")
@click.option("--sha256", callback=_check_sha256, metavar="HEX", help="SHA-256 that the published file must have.")
@click.option("--overwrite", is_flag=True, help="Replace another bundle at --out.")
@click.option(
    "--try",
    "try_seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Wait only so long for the network. Then do without the model, say so, and exit with 0.",
)
@click.option("--or", "otherwise", type=_NAMES, help="With --try: the model to try if NAME cannot be had.")
@click.option("--dry-run", is_flag=True, help="Only print what would be fetched, and where it would go.")
def command(
    name: str,
    file: Uri | None,
    out: Uri | None,
    sha256: str | None,
    overwrite: bool,
    try_seconds: float | None,
    otherwise: str | None,
    dry_run: bool,
) -> Summary:
    """Make a bundle of a public model. Afterwards `--bundle NAME` uses it wherever a bundle is asked for.

    The published file is downloaded and checked. Nothing but tensors is read from it. The bundle lies in your cache,
    with the model's licence and notice. An interrupted download goes on where it stopped. With MGC_OFFLINE=1 nothing is
    fetched.
    """
    if otherwise is not None and (try_seconds is None or file is not None or sha256 is not None):
        raise click.UsageError("--or goes with --try, and not with --from or --sha256.")
    other = None if otherwise is None else BundleName(otherwise)
    request = PullRequest(BundleName(name), file, out, sha256, overwrite, try_seconds, other, dry_run)
    from pipelines.models.pull import pull

    return pull(request)


if __name__ == "__main__":
    main(command)
