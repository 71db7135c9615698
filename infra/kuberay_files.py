"""Check KubeRay's files: its schemas, the commands in them, which images pods run, and where they stay."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from cluster.session.profiles import GROWTH, NodeResources, Resources, choose, growth
from infra.checkers import command_line, schedule
from infra.hardening import Resource, at, listed, mappings, resources
from infra.packaged import image_name
from mgc.errors import ConfigError, ResourceError

_STAYS: Final = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
"""Annotations with which autoscalers of machines leave a pod's node alone."""

_NEEDED: Final = ("cpu", "memory", "ephemeral-storage")
"""What a Ray node must be promised. Ray spills objects and writes its logs to the last."""


def schema(file: Path, schemas: Path | None) -> list[str]:
    """Check resources against KubeRay's schemas, with unknown fields refused, and their commands and schedules."""
    import jsonschema

    wrong: list[str] = []
    for resource in resources(file):
        kind, version = str(resource.get("kind", "")), str(resource.get("apiVersion", "")).partition("/")[2]
        for where, job in mappings(resource, "entrypoint"):
            wrong += command_line(str(job["entrypoint"])) + [f"{where}: {each}" for each in _fits(job)]
        for where, cron in mappings(resource, "schedule"):
            wrong += [f"{where}: {each}" for each in schedule(str(cron["schedule"]))]
        if schemas is None or str(resource.get("apiVersion", "")).partition("/")[0] != "ray.io":
            continue
        named = schemas / f"{kind.lower()}s.{version}.json"
        if not named.exists():
            wrong.append(f"kind {kind} {version}: there is no {named.name}")
            continue
        validator = jsonschema.Draft7Validator(_strict(json.loads(named.read_text(encoding="utf-8"))))
        wrong += [
            f"{'.'.join(map(str, error.path))}: {error.message[:200]}" for error in validator.iter_errors(resource)
        ]
    return wrong


def _strict(schema: JsonValue) -> JsonValue:
    """Return a schema that refuses unknown fields, as an API server does when it is asked to be strict."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict: dict[str, JsonValue] = {name: _strict(value) for name, value in schema.items()}
    fields = schema.get("properties")
    if isinstance(fields, dict) and fields and schema.get("type") == "object":
        open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
        return strict if open_ended else {**strict, "additionalProperties": False}
    return strict


def _fits(job: Resource) -> Iterator[str]:
    """Yield why a command would find its cluster too small for its profile and its workers."""
    words = shlex.split(str(job["entrypoint"]))
    given = {name: value for name, value in itertools.pairwise(words) if name.startswith("--")}
    if "--profile" not in given:
        return
    try:
        choose(given["--profile"], _largest(job), int(given.get("--workers", 1)))
    except (ConfigError, ResourceError) as error:
        yield str(error)


def _largest(job: Resource) -> Resources:
    """Return a job's cluster with as many workers as it may have."""
    nodes: list[NodeResources] = []
    for node, most in _may_start(at(job, "rayClusterSpec")).items():
        nodes += [node] * most
    return Resources("its cluster", max(1, int(sum(node.cpus for node in nodes))), tuple(nodes))


def _may_start(cluster: JsonValue | Resource) -> Mapping[NodeResources, int]:
    found: dict[NodeResources, int] = {}
    for group in listed(at(cluster, "workerGroupSpecs")):
        limits = at(listed(at(group, "template", "spec", "containers"))[0], "resources", "limits")
        assert isinstance(limits, Mapping)
        node = NodeResources(float(str(limits["cpu"])), int(str(limits.get("nvidia.com/gpu", 0))))
        found[node] = int(str(group["maxReplicas"]))
    return found


def placement(file: Path) -> list[str]:
    """Check that images have this mgc's version, that a head stays, and that each Ray node has what it is promised."""
    wrong: list[str] = []
    for resource in resources(file):
        for where, pod in mappings(resource, "containers"):
            wrong += [f"{where}: {each}" for each in _pod(pod)]
        for where, cluster in mappings(resource, "headGroupSpec"):
            head = at(cluster, "headGroupSpec", "template")
            wrong += [f"{where}.headGroupSpec: {each}" for each in [*_head(head), *_told(head, _may_start(cluster))]]
    return wrong


def _pod(pod: Resource) -> Iterator[str]:
    if not pod.get("imagePullSecrets"):
        yield "it has no imagePullSecrets, so an image of a private registry would not come"
    for container in listed(pod.get("containers")):
        name = str(container.get("name"))
        yield from (f"{name}: {each}" for each in image_name(str(container.get("image"))))
        if name in ("ray-head", "ray-worker"):
            yield from (f"{name}: {each}" for each in _promised(container))


def _promised(container: Resource) -> Iterator[str]:
    requests, limits = at(container, "resources", "requests"), at(container, "resources", "limits")
    for each in _NEEDED:
        if not (isinstance(requests, Mapping) and each in requests):
            yield f"resources.requests lacks {each}"
    # Ray counts CPUs and memory by the limits.
    if requests != limits:
        yield "resources.limits differ from its requests, so Ray would count on what the node does not promise"


def _head(template: JsonValue | Resource) -> Iterator[str]:
    if at(template, "spec", "nodeSelector", "karpenter.sh/capacity-type") != "on-demand":
        yield "no nodeSelector karpenter.sh/capacity-type: on-demand; with a spot node, the whole job goes"
    annotations = at(template, "metadata", "annotations")
    for name, value in _STAYS.items():
        if not (isinstance(annotations, Mapping) and annotations.get(name) == value):
            yield f'no annotation {name}: "{value}", so its node may be emptied'


def _told(template: JsonValue | Resource, may_start: Mapping[NodeResources, int]) -> Iterator[str]:
    """Yield what is wrong where jobs on the head do not hear which nodes may still start."""
    variables = listed(at(listed(at(template, "spec", "containers"))[0], "env"))
    text = next((str(each.get("value")) for each in variables if each.get("name") == GROWTH), "")
    if may_start and (not text or growth(text) != may_start):
        yield f"{GROWTH} is {text!r}, and workerGroupSpecs say otherwise"
