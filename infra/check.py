"""`python -m infra.check [FOLDER]`: check every file in infra/ with a real parser or validator; part of `make check`.

KUBERAY_SCHEMAS names the folder of KubeRay's schemas (rayclusters.v1.json and so on, the openAPIV3Schema of each
resource). A line reports each check that cannot be made here, without failing. Faults are reported and do fail.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from infra import checkers, hardening, kuberay_files, packaged, schedule_files
from infra.checkers import Skip

_UNCHECKED: Final = (".md", ".py", ".pyc", ".dockerignore")

Check = tuple[str, Path, Callable[[Path], list[str]]]


def checks(folder: Path, schemas: Path | None) -> Iterator[Check]:
    """Yield every check of a folder like infra/: its kind, what it checks, and the function."""
    for file in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        yield "YAML", file, checkers.yaml_file
    for file in sorted(folder.glob("kuberay/*.yaml")):
        yield "KubeRay", file, partial(kuberay_files.schema, schemas=schemas)
        yield "placement", file, kuberay_files.placement
        yield "hardening", file, hardening.kuberay
    for file in sorted(folder.glob("aws/*.yaml")):
        yield "ray up", file, checkers.ray_up
        yield "hardening", file, hardening.ray_up
    if (folder / "aws").is_dir():
        yield "HCL", folder / "aws", checkers.hcl
        yield "terraform fmt", folder / "aws", checkers.terraform_format
    for file in sorted(folder.glob("docker/Dockerfile")):
        yield "Dockerfile", file, checkers.dockerfile
        yield "packages", file.parent, packaged.image
        yield "hardening", file, hardening.image
    for file in sorted([*folder.glob("*.md"), *folder.glob("docker/Dockerfile"), *folder.glob("aws/*.yaml")]):
        yield "images", file, packaged.images_named
    for file in sorted(folder.glob("monitoring/prometheus*.yml")):
        yield "promtool", file, checkers.prometheus_config
    for file in sorted(folder.glob("monitoring/alerts.yml")):
        yield "PromQL", file, checkers.rules
        yield "promtool", file, checkers.rules_by_promtool
    for file in sorted(folder.glob("monitoring/grafana/*.json")):
        yield "dashboard", file, checkers.dashboard
    for file in sorted(folder.glob("schedules/*.cron")):
        yield "cron", file, checkers.crontab
    if any(folder.glob("schedules/*.service")):
        yield "systemd", folder / "schedules", checkers.systemd
    for file in sorted(folder.glob("schedules/night")):
        yield "bash", file, checkers.shell
    for file in sorted(folder.glob("schedules/*.env")):
        yield "settings", file, schedule_files.settings
    for file in sorted(folder.glob("schedules/*.logrotate")):
        yield "logrotate", file, schedule_files.logrotate


def run(folder: Path, schemas: Path | None) -> tuple[list[str], list[str], dict[str, int]]:
    """Make all checks.

    Args:
        folder: folder like infra/.
        schemas: folder of KubeRay's schemas, or None.

    Returns:
        The faults, what could not be checked, and how many files passed each kind of check.
    """
    wrong: list[str] = []
    skipped: dict[str, None] = {}
    passed: dict[str, int] = {}
    seen: set[Path] = set()
    if schemas is None:
        skipped["KubeRay's schemas: KUBERAY_SCHEMAS names no folder; only the commands were checked"] = None
    for kind, path, check in checks(folder, schemas):
        seen |= set(path.iterdir() if path.is_dir() else [path])
        try:
            found = check(path)
        except Skip as reason:
            skipped[f"{kind}: {reason}"] = None
            continue
        wrong += [f"{path.relative_to(folder.parent)}: {each}" for each in found]
        passed[kind] = passed.get(kind, 0) + (not found)
    files = {file for file in folder.rglob("*") if file.is_file() and file.suffix not in _UNCHECKED}
    wrong += [f"{file.relative_to(folder.parent)}: no checker knows such a file" for file in sorted(files - seen)]
    return wrong, list(skipped), passed


def main() -> None:
    """Make all checks, report them, and exit with 1 if there is a fault."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else checkers.ROOT / "infra"
    named = os.environ.get("KUBERAY_SCHEMAS")
    schemas = Path(named) if named else None
    if schemas is not None and not schemas.is_dir():
        sys.exit(f"infra: KUBERAY_SCHEMAS names {named}, which is no folder.")
    wrong, skipped, passed = run(folder.resolve(), schemas)
    print("infra: " + ", ".join(f"{kind} {count}" for kind, count in passed.items()))
    for line in skipped:
        print(f"infra: not checked: {line}")
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
