"""`mgc export BUNDLE --format onnx --out FILE`: a bundle's network as a file that other programs can run."""

from __future__ import annotations

import click

from cluster.storage.uri import Uri
from mgc.bundle_names import BundleName
from pipelines.command.job import Summary, main
from pipelines.command.options import BUNDLE, URI
from pipelines.models.requests import ExportRequest


@click.command("export")
@click.argument("bundle", type=BUNDLE)
@click.option(
    "--format", "_format", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="What to write."
)
@click.option("--out", type=URI, required=True, help="The file, also s3://.")
@click.option("--overwrite", is_flag=True, help="Replace another file at --out.")
@click.option("--dry-run", is_flag=True, help="Only print what the file would take and give.")
def command(bundle: Uri | BundleName, _format: str, out: Uri, overwrite: bool, dry_run: bool) -> Summary:
    """Write the network of a bundle as an ONNX file, with all that a program needs to know to use it.

    It takes features of the bundle's front end, as mgc stores them, and gives logits and embeddings of clips. Its
    metadata holds classes, front end, listening plan, bundle id and licence. ONNX Runtime's answers were compared with
    PyTorch's before anything is written.
    """
    from pipelines.models.export import export

    return export(ExportRequest(bundle, out, overwrite, dry_run))


if __name__ == "__main__":
    main(command)
