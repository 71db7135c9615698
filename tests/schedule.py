"""How `make test` deals the files of tests out to its processes: whole files, those that run Ray together and first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from xdist.scheduler import LoadScopeScheduling

RAY: Final = "Ray"
"""The scope of the files that run Ray."""

_RUNS_RAY: Final = re.compile(r"\bray_(session|head)\b|\blocal_cluster\b|^with connect\(", re.MULTILINE)
"""Words of the fixtures, or of a program that the test starts."""


def scope_of(file: Path) -> str:
    """Return what a file of tests shares a process with: `RAY`, or nothing but itself."""
    return RAY if _RUNS_RAY.search(file.read_text(encoding="utf-8")) else str(file)


class OneRay(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process whole files, so that it sets up what a file's tests share once.

    The files that run Ray go to one process. They share a head and the cores: two heads side by side on two cores were
    seen to take so long to start that tests ran into their time limits. They go first, because they take longest.
    """

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(Path(self.config.rootpath, nodeid.partition("::")[0]))

    def _assign_work_unit(self, node: Any) -> None:
        if RAY in self.workqueue:
            self.workqueue.move_to_end(RAY, last=False)
        super()._assign_work_unit(node)
