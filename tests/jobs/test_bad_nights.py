"""Bad nights in real Ray runs: no label is lost, and a person learns what happened and what to do."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.labels.history import commits, rollback
from cluster.labels.table import LabelsTable
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from mgc.errors import LabelsError
from pipelines import label as label_job
from pipelines.command.job import ALARMED, REFUSED, run
from tests.support.fault_proxy import Fault, Faults, Proxy
from tests.support.good_files import good_files
from tests.support.nights import held

pytestmark = [pytest.mark.cluster, pytest.mark.drill, pytest.mark.filterwarnings("default")]

TRACKS = 15


@dataclass
class Night:
    """A labelled folder of music, local or in a bucket, and how its next night goes.

    Attributes:
        music: folder of the music.
        labels: folder of its labels table.
        capsys: what the job prints.
    """

    music: Uri
    labels: Uri
    capsys: pytest.CaptureFixture[str]

    def run(self, *options: str) -> tuple[int, dict[str, Any], list[str]]:
        """Run the job. Returns its exit code, its summary, and what it said."""
        self.capsys.readouterr()
        code = run(label_job.command, [self.music.text, "--labels", self.labels.text, *options])
        printed = self.capsys.readouterr()
        return code, json.loads(printed.out.splitlines()[-1]), printed.err.splitlines()

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the table's rows by track."""
        return held(self.labels)

    def refused(self, name: str, *options: str) -> str:
        """Run a night that the guard stops. The table is as it was. Returns the line."""
        before, version = self.rows(), LabelsTable(self.labels).version
        code, summary, said = self.run(*options)
        assert (code, summary["status"]) == (REFUSED, "refused"), said
        assert self.rows() == before
        assert LabelsTable(self.labels).version == version
        [line] = summary["refused"]
        assert f"--accept {name}" in line
        assert [each for each in said if each.endswith(line)]
        report = json.loads(files.read_text(self.labels / "_reports" / "latest-refused.json"))
        assert report["refused"]
        assert "Refused" in files.read_text(Uri.parse(summary["outputs"]["report"]))
        return str(line)


@pytest.fixture(scope="module")
def labelled(ray_session: Profile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `music` and its `labels`, and a copy of both."""
    folder = tmp_path_factory.mktemp("nights")
    wav = next(file.data for file in good_files() if file.name.endswith(".wav"))
    for number in range(TRACKS):
        path = folder / "music" / "abc"[number % 3] / f"{number:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav)
    assert run(label_job.command, [str(folder / "music"), "--labels", str(folder / "labels")]) == 0
    for name in ("music", "labels"):
        shutil.copytree(folder / name, folder / "kept" / name)
    return folder


@pytest.fixture
def night(labelled: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Night]:
    yield Night(Uri.of_path(labelled / "music"), Uri.of_path(labelled / "labels"), capsys)
    for name in ("music", "labels"):
        shutil.rmtree(labelled / name)
        # Times of change are part of the content tags, and are copied.
        shutil.copytree(labelled / "kept" / name, labelled / name)


@pytest.fixture(scope="module")
def in_a_bucket(ray_session: Profile, s3_environment: Any) -> tuple[Uri, Uri]:
    """The same music in a bucket, labelled."""
    bucket = Uri.parse(f"s3://{s3_environment.make_bucket()}")
    wav = next(file.data for file in good_files() if file.name.endswith(".wav"))
    for number in range(TRACKS):
        files.write_bytes(bucket / f"music/{'abc'[number % 3]}/{number:02}.wav", wav)
    assert run(label_job.command, [(bucket / "music").text, "--labels", (bucket / "labels").text]) == 0
    return bucket / "music", bucket / "labels"


def spoil(night: Night, tracks: int = TRACKS) -> list[Path]:
    """Overwrite files with bytes that are no audio."""
    paths = sorted(night.music.local.rglob("*.wav"))[:tracks]
    for path in paths:
        path.write_bytes(b"no music at all" * 50)
    return paths


def test_garbage_files(night: Night) -> None:
    """All files turn to garbage. A person may accept that: then the labels stay, and are stale."""
    before = night.rows()
    paths = spoil(night)
    line = night.refused("stale")
    assert f"{TRACKS} of {TRACKS}" in line
    assert "not_audio" in line
    staged = files.list_uris(night.labels / "_runs")
    code, summary, _ = night.run("--accept", "stale")
    # Everything failed, so the alarm about that is raised whatever was accepted.
    assert (code, summary["counts"]["kept"]) == (ALARMED, TRACKS)
    assert staged
    after = night.rows()
    for track, row in after.items():
        changed = {name for name in row if row[name] != before[track][name]}
        assert changed == {
            "last_error_kind", "last_error_message", "stale_since", "tried_uri", "tried_content_tag", "tried_model_id",
            "tried_features_id",
        }, track  # fmt: skip
        assert (row["status"], row["last_error_kind"]) == ("labeled", "not_audio")
    # The same garbage is not heard every night.
    code, summary, _ = night.run()
    assert (code, summary["status"], summary["counts"]["up_to_date"]) == (0, "up_to_date", TRACKS)
    # The files come back, and the labels are fresh.
    for path in paths:
        shutil.copy2(night.music.local.parent / "kept" / path.relative_to(night.music.local.parent), path)
    code, summary, _ = night.run()
    assert (code, summary["counts"]["labeled"]) == (0, TRACKS)
    assert all(row["stale_since"] is None and row["last_error_kind"] is None for row in night.rows().values())


def test_some_garbage_is_no_reason_to_stop(night: Night) -> None:
    paths = spoil(night, 3)
    code, summary, _ = night.run()
    # All three that the run tried failed.
    assert (code, summary["counts"]["kept"]) == (ALARMED, 3)
    stale = {track for track, row in night.rows().items() if row["stale_since"] is not None}
    assert stale == {str(path.relative_to(night.music.local)) for path in paths}
    assert all(row["genre_top"] for row in night.rows().values())


def test_an_empty_mount(night: Night) -> None:
    shutil.rmtree(night.music.local)
    night.music.local.mkdir()
    assert f"{TRACKS} of {TRACKS}" in night.refused("removed")
    code, summary, _ = night.run("--accept", "removed")
    assert (code, summary["counts"]["removed"]) == (0, TRACKS)
    assert all(row["removed_at"] is not None and row["genre_top"] for row in night.rows().values())


def test_a_short_listing(night: Night) -> None:
    for path in sorted(night.music.local.rglob("*.wav"))[1:]:
        path.unlink()
    assert f"{TRACKS - 1} of {TRACKS}" in night.refused("removed")
    assert f"{TRACKS - 1} of {TRACKS}" in night.refused("removed", "--gone", "prune")


def test_pruning_keeps_corrections(night: Night, tmp_path: Path) -> None:
    tracks = sorted(night.rows())
    corrections = tmp_path / "corrections.csv"
    corrections.write_text(f"track_id,genre,by,reason\n{tracks[0]},Rock,ann,heard it\n{tracks[1]},Folk,ann,\n")
    assert night.run("--overrides", str(corrections))[0] == 0
    path = night.music.local / tracks[0]
    path.unlink()
    (night.music.local / tracks[2]).unlink()
    assert night.run("--gone", "prune")[0] == 0
    rows = night.rows()
    assert tracks[2] not in rows
    assert rows[tracks[0]]["removed_at"] is not None
    assert night.run("--gone", "prune")[1]["status"] == "up_to_date"
    shutil.copy2(night.music.local.parent / "kept" / "music" / tracks[0], path)
    assert night.run("--gone", "prune")[0] == 0
    row = night.rows()[tracks[0]]
    assert (row["genre_top"], row["override_by"], row["removed_at"]) == ("Rock", "ann", None)


@pytest.mark.parametrize("left", [2, 0], ids=["cut off", "empty"])
def test_a_file_of_corrections_that_was_cut_off(left: int, night: Night, tmp_path: Path) -> None:
    tracks = sorted(night.rows())
    file, lines = tmp_path / "c.csv", [f"{track},Rock,ann,heard it" for track in tracks[:12]]
    file.write_text("\n".join(["track_id,genre,by,reason", *lines, ""]))
    assert night.run("--overrides", str(file))[0] == 0
    file.write_text("\n".join(["track_id,genre,by,reason", *lines[:left], ""]))
    line = night.refused("corrections", "--overrides", str(file))
    assert f"{12 - left} of 12" in line
    code, _, _ = night.run("--overrides", str(file), "--accept", "corrections")
    assert code == 0
    assert sum(row["override_by"] == "ann" for row in night.rows().values()) == left


def test_a_rollback_holds(night: Night) -> None:
    spoil(night, 12)
    good = night.rows()
    assert night.run("--accept", "stale")[0] == ALARMED
    rollback(night.labels, 0, commits(LabelsTable(night.labels)))
    assert night.rows() == good
    code, summary, said = night.run()
    assert (code, summary["status"], summary["counts"]["held"]) == (0, "up_to_date", 12)
    assert any("--resume" in line for line in said)
    assert night.rows() == good
    [entry] = [commit for commit in commits(LabelsTable(night.labels)) if commit.what == "rollback"]
    assert entry.counts == {"held": 12}
    code, summary, _ = night.run("--resume", "--accept", "stale")
    assert (code, summary["counts"]["kept"]) == (ALARMED, 12)
    assert night.run()[1]["counts"]["held"] == 0


@pytest.mark.parametrize(("fault", "words"), [(Fault.DENIED, "denied|AccessDenied"), (Fault.ERROR, "InternalError")])
def test_a_store_that_lists_but_gives_nothing(
    fault: Fault, words: str, in_a_bucket: tuple[Uri, Uri], store_proxy: Proxy, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The files are new to the store's listing, so all would be heard. The canaries show that nothing can be."""
    night = Night(*in_a_bucket, capsys)
    wav = next(file.data for file in good_files() if file.name.endswith(".wav"))
    for number in range(3):
        files.write_bytes(night.music / f"new/{fault.name}-{number}.wav", wav + bytes(2 * number + 2))
    with store_proxy.armed(Faults((fault,), "*.wav", night.music.bucket)):
        line = night.refused("canary")
    assert any(word in line for word in words.split("|"))
    # The store is sound again: the same command goes on.
    code, summary, _ = night.run()
    assert code == 0
    assert summary["counts"]["labeled"] <= 3


def test_a_model_that_answers_otherwise_under_its_name(night: Night) -> None:
    """The table says otherwise than the same model on the same bytes: somebody changed the code or a library."""
    delta = LabelsTable(night.labels).delta
    delta.update(updates={"genre_top": "'Jazz'", "confidence": "0.9"})
    path = night.music.local / "a" / "new.wav"
    shutil.copy(next(night.music.local.rglob("*.wav")), path)
    line = night.refused("canary")
    assert "Jazz (0.900)" in line
    code, summary, _ = night.run("--accept", "canary")
    assert (code, summary["counts"]["new"]) == (0, 1)


def test_a_clock_ahead(night: Night) -> None:
    """A file's time of change, and the clock of a failed night, lie years ahead."""
    paths = spoil(night, 1)
    ahead = time.time() + 10 * 365 * 86400
    os.utime(paths[0], (ahead, ahead))
    assert night.run()[1]["counts"]["kept"] == 1
    assert night.run()[1]["status"] == "up_to_date"


def change_files(folder: Path, kept: Path, chance: random.Random) -> None:
    """Break, heal, remove, return and add some files."""
    paths = sorted(kept.rglob("*.wav"))
    some = chance.sample(paths, chance.choice((0, 1, 2, len(paths), len(paths))))
    what = chance.choice(("break", "heal", "remove", "heal", "change"))
    for path in some:
        target = folder / path.relative_to(kept)
        if what == "remove" and len(list(folder.rglob("*.wav"))) > 1:
            target.unlink(missing_ok=True)
        elif what == "heal":
            shutil.copy2(path, target)
        elif what == "break":
            target.write_bytes(b"no music at all" * chance.randint(1, 100))
        elif what == "change":
            # Bytes behind the samples are no part of the sound.
            target.write_bytes(path.read_bytes() + bytes(chance.randint(1, 1000)))


def test_twenty_random_nights(night: Night, tmp_path: Path) -> None:
    """Whatever comes, only a person's word takes a label or a correction away."""
    chance = random.Random(20)
    kept, corrections = night.music.local.parent / "kept" / "music", tmp_path / "corrections.csv"
    codes: list[int] = []
    for step in range(20):
        before, version = night.rows(), LabelsTable(night.labels).version
        if step % 7 == 6:
            log = commits(LabelsTable(night.labels))
            with contextlib.suppress(LabelsError):
                rollback(night.labels, chance.randrange(len(log)), log)
            continue
        if step == 1:
            spoil(night)
        else:
            change_files(night.music.local, kept, chance)
        options = [] if step == 1 else chance.choice(([], [], ["--gone", "prune"], ["--resume"]))
        if step != 1 and chance.random() < 0.3:
            options += ["--accept", "stale", "--accept", "removed", "--accept", "flips", "--accept", "canary"]
        corrected = chance.random() < 0.3
        if corrected:
            tracks = "".join(f"{track},Rock,ann,\n" for track in chance.sample(sorted(before), 2))
            corrections.write_text("track_id,genre,by,reason\n" + tracks)
            options += ["--overrides", str(corrections)]
        code, _, said = night.run(*options)
        assert code in (0, 3, REFUSED), said
        codes.append(code)
        after = night.rows()
        if code == REFUSED:
            assert (after, LabelsTable(night.labels).version) == (before, version)
        pruned = set(before) - set(after)
        assert all("prune" in options and not (night.music.local / track).exists() for track in pruned)
        for track, row in after.items():
            assert row["genre_top"] or not before.get(track, row)["genre_top"]
            if not corrected and track in before:
                assert row["override_by"] == before[track]["override_by"]
    assert {0, REFUSED} <= set(codes)
