"""Check this machine or a cluster, and report what would not work on it and what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import click
import numpy as np
from pydantic import JsonValue

from cluster.session import inventory, ray_internals
from cluster.session.connect import at_hand, connect, look_at_nodes
from cluster.session.inventory import Finding, State, fails, guard, lacks
from cluster.session.profiles import PROFILES, Resources, choose, this_machine
from cluster.storage.redaction import redact
from cluster.storage.uri import Uri
from cluster.training.batches import SHUFFLE_BYTES, SHUFFLE_CLIPS
from mgc.bundle_names import BEST_FIRST, BundleName
from mgc.errors import MgcError, ResourceError
from mgc.features.front_end import clip_form
from mgc.recipes.catalogue import RECIPES, Recipe
from mgc.training.memory import step_bytes
from mgc.units import GIB, format_bytes, format_count
from pipelines.command.job import Summary

_WORKER_BYTES: Final = GIB
"""Memory that a training worker takes before its first clip: Python, torch, Ray."""


@dataclass(frozen=True)
class DiagnosisRequest:
    """Things to check.

    Attributes:
        address: address of a Ray cluster; None checks the one in RAY_ADDRESS, or else only this machine.
        uris: places that must be readable.
        profile: name of a profile that must fit; the others are only reported.
        recipe: name of a recipe that must fit; None reports on all.
        workers: number of training workers that must fit.
        as_json: whether to print JSON instead of lines.
    """

    address: str | None = None
    uris: Sequence[Uri] = ()
    profile: str | None = None
    recipe: str | None = None
    workers: int = 1
    as_json: bool = False


def diagnose(request: DiagnosisRequest) -> Summary:
    """Check everything that the request names, and print one finding per line. Failed checks become alarms."""
    address = request.address or os.environ.get("RAY_ADDRESS") or None
    findings = _look(request, address)
    wrong = _failures(findings)
    answer: dict[str, JsonValue] | None = None
    if request.as_json:
        listed: list[JsonValue] = [inventory.as_json(finding) for finding in findings]
        answer = {"place": address or "this machine", "usable": not wrong, "findings": listed}
    else:
        _print(findings)
    alarms = [f"{finding.name}: {finding.value}: {finding.advice}" for finding in wrong]
    return Summary("done", {"looked_at": len(findings), "wrong": len(wrong)}, alarms=alarms, answer=answer)


def _look(request: DiagnosisRequest, address: str | None) -> list[Finding]:
    findings = guard(inventory.look_at_machine, "this machine")
    look_at_stores = partial(inventory.check_places, request.uris)
    findings += [inventory.find_browser(), _look_at_models(), *guard(look_at_stores, "object store")]
    have: Resources | None = None
    memory = inventory.memory_bytes()[1]
    if address is None:
        have = this_machine(_count_gpus())
    else:
        try:
            with connect(address):
                have = at_hand("the cluster")
                nodes = look_at_nodes(inventory.look_at_machine)
                findings += [*_describe_cluster(have, nodes), *guard(_look_at_token, "token")]
        except MgcError as error:
            findings.append(fails("cluster", redact(address), str(error)))
    if have is not None:
        findings += [_try_profile(name, have, request.workers, name == request.profile) for name in PROFILES]
    return findings + _try_recipes(request.recipe, request.workers, memory)


def _look_at_token() -> list[Finding]:
    """Find out whether the connected cluster answers only those who know its token."""
    if ray_internals.answers_strangers():
        advice = "whoever reaches the head can run code on all nodes; start every node with RAY_AUTH_MODE=token"
        return [fails("token", "the cluster asks for none", f"{advice} (see the docs, Security)")]
    return [Finding("token", "the cluster asks for it")]


def _look_at_models() -> Finding:
    """Name the public models that are pulled on this machine, and the bundle that is the default."""
    pulled = [name for name in BundleName if name.is_public and name.is_there]
    if not pulled:
        return lacks("models", "the shipped bundle alone", f"`mgc pull {BEST_FIRST[0]}` fetches a better one")
    return Finding("models", f"pulled: {', '.join(pulled)}; --bundle default is {BundleName.DEFAULT.resolved}")


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        advice = f": {finding.advice}" if finding.advice else ""
        click.echo(f"{finding.state}  {finding.name:<{width}}  {finding.value}{advice}")


def _failures(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.state is State.FAILS]


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _describe_cluster(have: Resources, nodes: dict[str, list[Finding] | str]) -> list[Finding]:
    counted = f"{format_count(len(have.nodes), 'node')} with {have.cpus:g} CPUs and {format_count(have.gpus, 'GPU')}"
    value = f"{counted}, including those it may still start"
    findings = [Finding("cluster", value)]
    for name, found in nodes.items():
        if isinstance(found, str):
            findings.append(
                fails(
                    name,
                    found,
                    "mgc is missing there: use `ray job submit --working-dir .`, or an image with mgc in it",
                )
            )
            continue
        wrong = _failures(found)
        told = ("cores", "memory", "GPUs", inventory.CELL)
        known = "; ".join(f"{each.name} {each.value}" for each in found if each.name in told)
        findings.append(Finding(name, known))
        findings += [fails(f"{name} {each.name}", each.value, each.advice) for each in wrong]
    return findings


def _try_profile(name: str, have: Resources, workers: int, wanted: bool) -> Finding:
    named = f"profile {name}"
    try:
        fitted = choose(name, have, workers)
    except ResourceError as error:
        reason = str(error).removeprefix(f"profile {name} ")
        return fails(named, "would not fit", reason) if wanted else lacks(named, "would not fit", reason)
    on = format_count(fitted.gpus, "GPU") if fitted.gpus else "the CPU"
    workers_text = format_count(fitted.train_workers, "training worker")
    return Finding(named, f"fits: {format_count(fitted.cores, 'decoder')}, {workers_text}, networks on {on}")


def _try_recipes(wanted: str | None, workers: int, free: int) -> list[Finding]:
    """Find the recipes that can train in `free` bytes of memory on this machine."""
    needs = {name: _training_bytes(recipe, workers) for name, recipe in RECIPES.items() if wanted in (None, name)}
    findings = []
    for name, size in needs.items():
        if size > free:
            found = fails if name == wanted else lacks
            advice = f"free memory, choose a smaller --training.batch_size, or train on more than {workers} machine(s)"
            findings.append(
                found(f"recipe {name}", f"needs about {format_bytes(size)}, {format_bytes(free)} are free", advice)
            )
    fit = len(needs) - len(findings)
    if wanted is not None and fit:
        return [
            Finding(f"recipe {wanted}", f"fits: {workers} training worker(s) need about {format_bytes(needs[wanted])}")
        ]
    if not fit and wanted is None:
        return [fails("recipes", "none would fit", f"the smallest needs {format_bytes(min(needs.values()))} of memory")]
    if wanted is None:
        largest = max((name for name in needs if needs[name] <= free), key=needs.__getitem__)
        value = f"{fit} of {len(needs)} fit; the largest, {largest}, needs about {format_bytes(needs[largest])}"
        return [Finding("recipes", value), *findings]
    return findings


def _training_bytes(recipe: Recipe, workers: int) -> int:
    """Return the memory that all workers of a training take together, on one machine."""
    experiment = recipe.build()
    shape, dtype = clip_form(experiment.front_end)
    clip = int(np.prod(shape)) * np.dtype(dtype).itemsize
    batch = -(-experiment.training.batch_size // workers)
    step = step_bytes(experiment.model, shape, recipe.genres, batch)
    return workers * (_WORKER_BYTES + step) + min(SHUFFLE_CLIPS * clip, SHUFFLE_BYTES)
