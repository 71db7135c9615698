"""`mgc export`: a bundle's network as an ONNX file, with all that another program needs to know to use it."""

from __future__ import annotations

from typing import Final

import onnx
from onnx.helper import set_model_props
from pydantic import JsonValue

from cluster.bundles import open_bundle
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.bundle import Bundle
from mgc.bundle_names import BundleName
from mgc.errors import StorageError
from mgc.features.front_end import build_front_end
from mgc.graphs.export import export_graph, output_names
from mgc.graphs.facts import describe_graph
from mgc.models.architecture import graph_takes_any_frames
from mgc.models.graph import FEATURES
from mgc.units import format_bytes
from pipelines.command.job import Summary, describe, say
from pipelines.models.requests import ExportRequest

TERMS: Final = ("LICENSE", "NOTICE", "LICENSE-WEIGHTS.md")
"""Files beside a bundle that say under which terms its weights may be used."""


def export(request: ExportRequest) -> Summary:
    """Write a bundle's network as an ONNX file for other programs.

    Raises:
        BundleError: the bundle cannot be opened, or its network cannot be exported.
        StorageError: the file cannot be written, or another one is there.
    """
    place = request.bundle.resolved if isinstance(request.bundle, BundleName) else request.bundle
    bundle, out = open_bundle(place), request.out
    counts: dict[str, JsonValue] = {"classes": len(bundle.vocabulary.tags)}
    outputs = {"onnx": str(out), "bundle_id": bundle.id}
    data = _with_facts(export_graph(bundle), describe_graph(bundle, _terms(place)))
    if request.dry_run:
        describe({"bundle": f"{bundle.id} ({place})", **_describe_ends(bundle), "size": format_bytes(len(data))})
        return Summary("dry_run", counts, outputs)
    if files.exists(out):
        if files.read_bytes(out) == data:
            say(f"{out}: this graph is already there.")
            return Summary("up_to_date", counts, outputs)
        if not request.overwrite:
            raise StorageError(f"{out}: another file lies here; choose another --out, or replace it with --overwrite.")
    files.write_bytes(out, data)
    say(f"bundle {bundle.id} -> {out} ({format_bytes(len(data))})")
    return Summary("done", counts, outputs)


def _describe_ends(bundle: Bundle) -> dict[str, str]:
    """Return what the graph of a bundle takes and gives, for people."""
    front_end = build_front_end(bundle.experiment.front_end)
    sizes = " x ".join(map(str, front_end.shape))
    free = "clips and frames" if graph_takes_any_frames(bundle.experiment.model) else "clips"
    takes = f"{FEATURES}: {sizes} {front_end.dtype} ({bundle.experiment.front_end.kind}), any number of {free}"
    return {"takes": takes, "gives": ", ".join(output_names(bundle))}


def _with_facts(data: bytes, facts: dict[str, str]) -> bytes:
    """Return an ONNX file with metadata, after the checks of ONNX's own library."""
    model = onnx.load_model_from_string(data)
    set_model_props(model, facts)
    model.doc_string = facts["answer"]
    onnx.checker.check_model(model, full_check=True)
    checked: bytes = model.SerializeToString(deterministic=True)
    return checked


def _terms(place: Uri | BundleName) -> dict[str, str]:
    """Return the texts of the licence and the notice that lie beside a bundle, by their file names."""
    if isinstance(place, BundleName):
        directory = place.directory
        if directory is None:
            return {}
        place = Uri.of_path(directory)
    return {name: files.read_text(place / name) for name in TERMS if files.exists(place / name)}
