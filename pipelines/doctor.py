"""`mgc doctor`: what this machine or cluster has, what would not work on it, and what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import click
import numpy as np

from cluster.session import inventory
from cluster.session.connect import at_hand, connect, looked_at
from cluster.session.inventory import Finding, State, fails, guarded, lacks
from cluster.session.profiles import PROFILES, Resources, choose, this_machine
from cluster.storage.failures import redact
from cluster.storage.uri import Uri
from cluster.training.batches import SHUFFLE_BYTES, SHUFFLE_CLIPS
from mgc.errors import ConfigError, MgcError
from mgc.features.front_end import build_front_end
from mgc.recipes.catalogue import RECIPES, Recipe
from mgc.training.memory import step_bytes
from mgc.units import GIB, format_bytes
from pipelines.command.job import URI, Summary, main

_WORKER_BYTES: Final = GIB
"""Of a training worker before its first clip: Python, torch, Ray."""


def build(
    address: str | None = None,
    uris: Sequence[str] = (),
    profile: str | None = None,
    recipe: str | None = None,
    workers: int = 1,
    as_json: bool = False,
) -> Summary:
    """Look at everything, and print it.

    Args:
        address: of a cluster; None looks at the one in RAY_ADDRESS, or at this machine alone.
        uris: places that must be readable.
        profile: that must fit; of the others it is said whether they do.
        recipe: that must fit; of the others it is said which do not.
        workers: training workers to be fitted.
        as_json: print JSON instead of lines.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    findings = guarded(inventory.machine, "this machine")
    findings += [inventory.browser(), *guarded(partial(inventory.stores, uris), "object store")]
    have: Resources | None = None
    memory = inventory.memory_bytes()[1]
    if address is None:
        have = this_machine(_gpus())
    else:
        try:
            with connect(address):
                have = at_hand("the cluster")
                nodes = looked_at(inventory.machine)
            findings += _cluster(have, nodes)
        except MgcError as error:
            findings.append(fails("cluster", redact(address), str(error)))
    if have is not None:
        findings += [_profile(name, have, workers, name == profile) for name in PROFILES]
    findings += _recipes(recipe, workers, memory)
    if as_json:
        answer: dict[str, Any] = {"place": address or "this machine", "usable": not _wrong(findings)}
        answer["findings"] = [inventory.as_json(finding) for finding in findings]
    else:
        answer = {}
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            advice = f": {finding.advice}" if finding.advice else ""
            click.echo(f"{finding.state}  {finding.name:<{width}}  {finding.value}{advice}")
    wrong = _wrong(findings)
    counts = {"looked_at": len(findings), "wrong": len(wrong)}
    alarms = [f"{finding.name}: {finding.value}: {finding.advice}" for finding in wrong]
    return Summary("done", counts, alarms=alarms, answer=answer or None)


def _wrong(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.state is State.FAILS]


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cluster(have: Resources, nodes: dict[str, list[Finding] | str]) -> list[Finding]:
    value = f"{len(have.nodes)} nodes with {have.cpus:g} CPUs and {have.gpus} GPUs, those counted that it may yet start"
    findings = [Finding("cluster", value)]
    for name, found in nodes.items():
        if isinstance(found, str):
            findings.append(
                fails(name, found, "mgc must be there: `ray job submit --working-dir .`, or an image with mgc in it")
            )
            continue
        wrong = _wrong(found)
        known = "; ".join(f"{each.name} {each.value}" for each in found if each.name in ("cores", "memory", "GPUs"))
        findings.append(Finding(name, known))
        findings += [fails(f"{name} {each.name}", each.value, each.advice) for each in wrong]
    return findings


def _profile(name: str, have: Resources, workers: int, wanted: bool) -> Finding:
    named = f"profile {name}"
    try:
        fitted = choose(name, have, workers)
    except ConfigError as error:
        reason = str(error).removeprefix(f"profile {name} ")
        return fails(named, "would not fit", reason) if wanted else lacks(named, "would not fit", reason)
    on = f"{fitted.gpus} GPUs train and predict" if fitted.gpus else "the CPU trains and predicts"
    return Finding(named, f"fits: {fitted.cores} decoders, {on}, {fitted.train_workers} training worker(s)")


def _recipes(wanted: str | None, workers: int, free: int) -> list[Finding]:
    """Which recipes would train in the memory that is free here."""
    wants = {name: _training_bytes(recipe, workers) for name, recipe in RECIPES.items() if wanted in (None, name)}
    findings = []
    for name, size in wants.items():
        if size > free:
            found = fails if name == wanted else lacks
            advice = f"free some, or train with a smaller --training.batch_size, or on more machines than {workers}"
            findings.append(
                found(f"recipe {name}", f"wants about {format_bytes(size)}, {format_bytes(free)} are free", advice)
            )
    fit = len(wants) - len(findings)
    if wanted is not None and fit:
        return [
            Finding(f"recipe {wanted}", f"fits: {workers} training worker(s) want about {format_bytes(wants[wanted])}")
        ]
    if not fit and wanted is None:
        return [fails("recipes", "none would fit", f"the smallest wants {format_bytes(min(wants.values()))} of memory")]
    if wanted is None:
        largest = max((name for name in wants if wants[name] <= free), key=wants.__getitem__)
        value = f"{fit} of {len(wants)} fit; the largest, {largest}, wants about {format_bytes(wants[largest])}"
        return [Finding("recipes", value), *findings]
    return findings


def _training_bytes(recipe: Recipe, workers: int) -> int:
    """Of all workers, on one machine."""
    experiment = recipe.build()
    shape = recipe.input_shape
    clip = int(np.prod(shape)) * np.dtype(build_front_end(experiment.front_end).dtype).itemsize
    batch = -(-experiment.training.batch_size // workers)
    step = step_bytes(experiment.model, shape, recipe.genres, batch)
    return workers * (_WORKER_BYTES + step) + min(SHUFFLE_CLIPS * clip, SHUFFLE_BYTES)


@click.command("doctor")
@click.option("--address", help="Of a Ray cluster; by default what RAY_ADDRESS says, or else this machine alone.")
@click.option("--uri", "uris", type=URI, multiple=True, help="A folder or s3:// place to look at; may be repeated.")
@click.option("--profile", type=click.Choice(list(PROFILES)), help="One that must fit.")
@click.option("--recipe", type=click.Choice(list(RECIPES)), metavar="RECIPE", help="One that must fit.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Training workers to be fitted.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")
def command(
    address: str | None, uris: tuple[Uri, ...], profile: str | None, recipe: str | None, workers: int, as_json: bool
) -> Summary:
    """Print what this machine or cluster has, and what would not work, with what to do: one line each.

    ok: works. --: not there, and only who wants it need care. !!: would not work. Exit code 0: usable; 3: see the !!.
    """
    return build(address, [uri.text for uri in uris], profile, recipe, workers, as_json)


if __name__ == "__main__":
    main(command)
