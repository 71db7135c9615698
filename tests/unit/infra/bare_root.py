"""The steps of a Dockerfile, carried out in bare Debian roots by chroot, where there is no Docker.

Debian's own bookworm with its Python 3.11 stands in for `python:3.11-slim-bookworm`. Each command runs in namespaces of
its own, so nothing stays mounted and no process stays behind, however it ends.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra import dockerfile

MISSING: Final = [name for name in ("debootstrap", "unshare", "chroot") if shutil.which(name) is None] + (
    [] if os.geteuid() == 0 else ["root's rights"]
)
"""What a bare root needs and this machine lacks."""

_SLIM: Final = "ca-certificates netbase python3.11-venv tzdata"
"""What python:3.11-slim has besides Debian's smallest root."""

_PATH: Final = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

_WHEELS: Final = "/wheels"

_ENTER: Final = """
root=$1 wheels=$2 user=$3; shift 3
mount --make-rprivate /
mount --types proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount --types tmpfs --options size=2g,mode=1777 shm "$root/dev/shm"
mount --bind "$wheels" "$root%s"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
exec chroot --userspec="$user" "$root" /usr/bin/env -i "$@"
"""


@dataclass
class Stage:
    """A stage of a Dockerfile as far as it is done.

    Attributes:
        root: its root folder.
        wheels: folder of wheels, the only place from which pip installs.
        environment: what ENV has set.
        user: what USER has set.
        folder: what WORKDIR has set.
    """

    root: Path
    wheels: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    user: str = "0"
    folder: str = "/"

    def run(self, command: str, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a shell command in the root as the stage's user, with the stage's environment and some more."""
        accounts = (line.split(":") for line in (self.root / "etc/passwd").read_text().splitlines())
        home = next((account[5] for account in accounts if account[2] == self.user), "/")
        variables = {"HOME": home, **self.environment, **(more or {})}
        words = [f"--chdir={self.folder}", *(f"{name}={value}" for name, value in variables.items())]
        enter = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euc", _ENTER % _WHEELS, "bash"]
        return subprocess.run(
            [*enter, str(self.root), str(self.wheels), f"{self.user}:{self.user}", *words, "sh", "-c", command],
            capture_output=True,
            text=True,
            check=False,
        )

    def copy(self, source: Path, target: str, ignore: Sequence[str], context: Path) -> None:
        """Copy a file or what is in a folder, without what the .dockerignore keeps back."""
        place = self.root / str(Path(self.folder, target)).lstrip("/")
        for file in [source] if source.is_file() else sorted(source.rglob("*")):
            if file.is_file() and dockerfile.is_sent(str(file.relative_to(context)), ignore):
                into_folder = source.is_dir() or target.endswith("/")
                below = file.relative_to(source) if source.is_dir() else Path(file.name)
                goal = place / below if into_folder else place
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, goal)


def bootstrap(root: Path, wheels: Path) -> None:
    """Make a bare Debian root with Python 3.11 at the place where the base image has it."""
    command = ["debootstrap", "--variant=minbase", "bookworm", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    (root / _WHEELS.lstrip("/")).mkdir()
    done = Stage(root, wheels).run(f"apt-get update && apt-get install --yes --no-install-recommends {_SLIM}")
    assert done.returncode == 0, done.stderr[-3000:]
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3.11")


def build(file: Path, target: str, context: Path, folder: Path, wheels: Path) -> Stage:
    """Carry out the steps of a Dockerfile up to the end of a stage.

    Args:
        file: the Dockerfile; its .dockerignore lies beside it.
        target: name of the stage.
        context: folder that is built.
        folder: for the roots, one for each stage.
        wheels: folder of wheels that pip is to install from, with no registry.

    Raises:
        AssertionError: a step fails.
        ValueError: it has a step that is not known here.
    """
    ignore = file.with_name(f"{file.name}.dockerignore").read_text(encoding="utf-8").splitlines()
    bare, stages, stage = folder / "bare", dict[str, Stage](), Stage(folder, wheels)
    bootstrap(bare, wheels)
    for word, rest in dockerfile.steps(file):
        if word == "FROM":
            if target in stages:
                break
            name = rest.split()[-1]
            subprocess.run(["cp", "--archive", str(bare), str(folder / name)], check=True)
            stage = stages[name] = Stage(folder / name, wheels)
        elif word == "ENV":
            pairs = (pair.partition("=") for pair in shlex.split(rest))
            new = {name: value.replace("$PATH", stage.environment["PATH"]) for name, _, value in pairs}
            stage.environment |= new
        elif word == "USER":
            stage.user = rest
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            origin, sources, goal = dockerfile.copied(rest)
            for source in sources:
                if origin:
                    place = str(stages[origin].root) + source
                    subprocess.run(["cp", "--archive", place, str(stage.root) + goal], check=True)
                else:
                    stage.copy(context / source, goal, ignore, context)
        elif word == "RUN":
            done = stage.run(rest, {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": _WHEELS})
            assert done.returncode == 0, f"RUN {rest}\n{(done.stdout + done.stderr)[-3000:]}"
        elif word not in ("ARG", "CMD", "LABEL"):
            raise ValueError(f"{file.name}: the step {word} is not known here")
    return stages[target]
