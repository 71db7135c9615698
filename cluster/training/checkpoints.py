"""Choose the checkpoint to resume a training from. A damaged one is set aside, and the one before it is used.

Ray Train lists the checkpoints of a run in a snapshot, and insists that they are all there. So a damaged checkpoint
stays in its place, where nothing reads it any more, until Ray deletes it. A copy is set aside for a person to look at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import ray.train

from cluster.session import ray_internals
from cluster.storage import files
from cluster.storage.notice import notice
from cluster.storage.uri import Uri
from cluster.tables.parquet import place_of
from mgc.errors import StorageError
from mgc.training.course import find_damage

SET_ASIDE: Final = "set_aside"
"""Folder of a run that holds copies of damaged checkpoints."""

_LINE: Final = "damage.txt"


@contextlib.contextmanager
def open_sound_checkpoint(rank: int, agree: Callable[[str | None], str | None]) -> Iterator[Path | None]:
    """Yield a local folder with the newest checkpoint that is sound on all workers; None to start from the beginning.

    Every worker calls this at the same time.

    Args:
        rank: number of this worker; the first one sets damaged checkpoints aside.
        agree: function that returns the damage that any worker found, or None; all workers call it together.
    """
    for checkpoint in _newest_first():
        with local_copy(checkpoint) as folder:
            damage = agree(find_damage(folder))
            if damage is None:
                yield folder
                return
            if rank == 0:
                _set_aside(place_of(checkpoint.filesystem, checkpoint.path), damage)
    yield None


@contextlib.contextmanager
def local_copy(checkpoint: ray.train.Checkpoint) -> Iterator[Path]:
    """Yield a local folder with the files of a checkpoint.

    Raises:
        StorageError: as `stay_inside`.
    """
    stay_inside(place_of(checkpoint.filesystem, checkpoint.path))
    with checkpoint.as_directory() as folder:
        yield Path(folder)


def stay_inside(folder: Uri) -> None:
    """Refuse a folder in a bucket from which Ray would copy a file to another place of this disk than it should.

    Raises:
        StorageError: a key has `..` in it.
    """
    for uri in files.list_uris(folder) if folder.is_remote else ():
        if ".." in uri.key.split("/"):
            raise StorageError(f"{uri}: a copy of it would lie outside of the checkpoint's folder; delete it.")


def _newest_first() -> Iterator[ray.train.Checkpoint]:
    newest = ray.train.get_checkpoint()
    if newest is None:
        return
    yield newest
    reported = ray.train.get_all_reported_checkpoints(ray.train.CheckpointConsistencyMode.COMMITTED)
    yield from (each.checkpoint for each in reversed(reported) if each.checkpoint.path != newest.path)


def _set_aside(place: Uri, damage: str) -> None:
    copy = place.parent / SET_ASIDE / place.name
    for uri in files.list_uris(place):
        files.write_bytes(copy / uri.path.removeprefix(place.path), files.read_bytes(uri))
    line = f"{place}: this checkpoint was damaged ({damage}). The training went on from the one before it, or from the "
    files.write_bytes(copy / _LINE, f"{line}start. A copy is in {copy}.".encode())


def repair_snapshot(run: Uri) -> None:
    """Set the snapshot of a run aside if Ray could not use it. The training then starts from the beginning.

    Ray replaces the snapshot in place, so a driver that is killed at that moment leaves half of one.

    Args:
        run: folder of the run's checkpoints; it may be missing.
    """
    snapshot = run / ray_internals.CHECKPOINT_SNAPSHOT
    if not files.exists(snapshot):
        return
    try:
        names = ray_internals.checkpoints_in_snapshot(files.read_bytes(snapshot))
        what = next((f"{name} is missing" for name in names if not files.exists(run / name)), None)
    except ValueError:
        what = "it is not one of this version of Ray"
    if what is not None:
        files.move(snapshot, run / SET_ASIDE / snapshot.name)
        notice(
            f"{snapshot}: this list of checkpoints was damaged ({what}) and is set aside. The training starts from the "
            "beginning."
        )


def lines_set_aside(run: Uri) -> list[str]:
    """Return a line about each checkpoint of a run that was set aside."""
    return [files.read_text(uri) for uri in files.list_uris(run / SET_ASIDE) if uri.name == _LINE]
