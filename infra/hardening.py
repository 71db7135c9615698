"""Check that files which start a Ray leave no door open: token, ports, rights of containers, credentials, the image.

Whoever reaches a head that asks for no token can run any code on its nodes, with the nodes' credentials.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml
from pydantic import JsonValue

from infra.packaged import image_name

Resource = Mapping[str, JsonValue]

_TOKEN: Final = "RAY_AUTH_MODE=token"
_TOKEN_FILE: Final = ".ray/auth_token"
_BASE: Final = "${BASE}"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_SUBMITS_ITSELF: Final = ("HTTPMode", "SidecarMode", "InteractiveMode")
"""Modes of a RayJob in which no pod of its own submits the job."""


def kuberay(file: Path) -> list[str]:
    """Check KubeRay's resources: token, rights of each pod, and a network policy for it in the same folder."""
    guarded = _guarded_labels(file.parent)
    wrong: list[str] = []
    for resource in resources(file):
        for where, cluster in mappings(resource, "headGroupSpec"):
            if at(cluster, "authOptions", "mode") != "token":
                wrong.append(f"{where}: authOptions.mode is not token, so whoever reaches the head can run code on it")
        for where, job in mappings(resource, "entrypoint"):
            if job.get("submissionMode", "K8sJobMode") not in _SUBMITS_ITSELF and "submitterPodTemplate" not in job:
                wrong.append(f"{where}: it lacks submitterPodTemplate; KubeRay's own gives the pod all rights")
        for where, options in mappings(resource, "idleTimeoutSeconds"):
            wrong += [f"{where}: {each}" for each in _container(options)]
        for where, pod in mappings(resource, "containers"):
            wrong += [f"{where}: {each}" for each in _pod(pod)]
        for where, template in mappings(resource, "spec"):
            if isinstance(at(template, "spec", "containers"), list):
                labels = at(template, "metadata", "labels")
                if not (isinstance(labels, dict) and any(chosen.items() <= labels.items() for chosen in guarded)):
                    wrong.append(f"{where}: no NetworkPolicy in {file.parent.name}/ covers this pod by its labels")
    return wrong


def image(file: Path) -> list[str]:
    """Check a Dockerfile: the argument BASE alone names the image below it, and each build that is shown pins it."""
    text, readme = file.read_text(encoding="utf-8"), file.parents[1] / "README.md"
    wrong: list[str] = []
    stages: set[str] = set()
    for base, stage in re.findall(r"^FROM +(\S+)(?: +AS +(\S+))?", text, re.MULTILINE):
        if base != _BASE and base not in stages:
            wrong.append(f"FROM {base}: it is not {_BASE}, so the digest that a build names does not pin it")
        stages.add(stage)
    shown = text + (readme.read_text(encoding="utf-8") if readme.exists() else "")
    for command in re.findall(r"^#? *(docker build .+)$", shown, re.MULTILINE):
        if "--build-arg BASE=" not in command:
            wrong.append(f"{command[:60]}: it names no --build-arg BASE, and a tag may be another image tomorrow")
    return wrong


def _pod(pod: Resource) -> Iterator[str]:
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false, so Ray's containers could talk to Kubernetes"
    if at(pod, "securityContext", "runAsNonRoot") is not True:
        yield "securityContext.runAsNonRoot is not true"
    if at(pod, "securityContext", "seccompProfile", "type") not in ("RuntimeDefault", "Localhost"):
        yield "securityContext.seccompProfile.type is not RuntimeDefault"
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "it shares the node's network or processes"
    for container in listed(pod.get("containers")):
        yield from (f"{container.get('name')}: {each}" for each in _container(container))


def _container(container: Resource) -> Iterator[str]:
    if at(container, "securityContext", "allowPrivilegeEscalation") is not False:
        yield "securityContext.allowPrivilegeEscalation is not false"
    if at(container, "securityContext", "capabilities", "drop") != ["ALL"]:
        yield "securityContext.capabilities.drop is not [ALL]"
    if at(container, "securityContext", "privileged") is True:
        yield "it is privileged"


def _guarded_labels(folder: Path) -> list[Mapping[str, JsonValue]]:
    """Return the labels by which the network policies of a folder choose pods whose callers they limit."""
    chosen: list[Mapping[str, JsonValue]] = []
    for file in sorted(folder.glob("*.yaml")):
        for resource in resources(file):
            labels = at(resource, "spec", "podSelector", "matchLabels")
            limits = at(resource, "spec", "policyTypes")
            if resource.get("kind") == "NetworkPolicy" and isinstance(labels, dict) and isinstance(limits, list):
                anyone = any(not rule.get("from") for rule in listed(at(resource, "spec", "ingress")))
                if "Ingress" in limits and not anyone:
                    chosen.append(labels)
    return chosen


def ray_up(file: Path) -> list[str]:
    """Check a configuration of `ray up`: each node asks for the token and gets it, the dashboard is on loopback."""
    config = next(resources(file), {})
    wrong: list[str] = []
    mounts = config.get("file_mounts")
    if not (isinstance(mounts, dict) and any(str(target).endswith(_TOKEN_FILE) for target in mounts)):
        wrong.append(f"file_mounts brings no {_TOKEN_FILE} to the nodes")
    commands = [str(each) for name, value in config.items() if name.endswith("commands") for each in _texts(value)]
    wrong += [each for command in commands for each in ray_start(command)]
    if not any("ray start" in command for command in commands):
        wrong.append("no command starts a Ray")
    if "docker" in config:
        wrong += [f"docker: {each}" for each in image_name(str(at(config, "docker", "image")))]
    options = _texts(at(config, "docker", "run_options"))
    if "docker" in config and not {"--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(options):
        wrong.append("docker.run_options lacks --cap-drop=ALL or --security-opt=no-new-privileges")
    return wrong


def ray_start(command: str) -> Iterator[str]:
    """Yield what is wrong with a shell command, if it starts a node of a Ray."""
    words = shlex.split(command)
    for place in range(len(words) - 1):
        if words[place : place + 2] != ["ray", "start"]:
            continue
        if _TOKEN not in words[:place]:
            yield f"`{command}` starts a Ray without {_TOKEN}"
        host = re.search(r"--dashboard-host[= ](\S+)", command)
        if host is not None and host[1] not in _LOOPBACK:
            yield f"`{command}` shows the dashboard on {host[1]}, not on loopback"


def resources(file: Path) -> Iterator[Resource]:
    """Return the documents of a YAML file."""
    return (each for each in yaml.safe_load_all(file.read_text(encoding="utf-8")) if isinstance(each, dict))


def mappings(value: JsonValue | Resource, key: str, where: str = "") -> Iterator[tuple[str, Resource]]:
    """Yield every mapping that has a key, at any depth, and its place."""
    if isinstance(value, Mapping):
        if key in value:
            yield where or "the file", value
        for name, each in value.items():
            yield from mappings(each, key, f"{where}.{name}" if where else name)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from mappings(each, key, f"{where}[{number}]")


def at(value: JsonValue | Resource, *names: str) -> JsonValue | Resource:
    """Return what lies below these names; None if one of them is missing."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def listed(value: JsonValue | Resource) -> list[dict[str, JsonValue]]:
    """Return the mappings of a list; none if it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _texts(value: JsonValue | Resource) -> Sequence[str]:
    return [str(each) for each in value] if isinstance(value, list) else []
