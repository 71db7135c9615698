"""A wrong command ends with exit code 2 and one line, whatever is wrong with it, before anything is read or written."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from pipelines.cli import JOBS, find
from pipelines.command.job import run

WRONG = """
catalog gs://bucket/music --out c
catalog s3:// --out c
catalog music --out c --corpus nonsense
catalog music --out c --column nonsense=x
catalog music --out c --metadata m.csv --column nonsense
catalog music --out c --include ''
catalog music --out c --subset small
prepare c --out f --recipe nonsense
prepare c --out f --front_end.nonsense 1
prepare c --out f --front_end.n_mels many
train --out b
train --out b --features f --catalog c
train --out b --features f --recipe nonsense
train --out b --features f --training.nonsense 1
train --out b --features f --training.epochs many
train --out b --features f --training.epochs
train --out b --features f --training 3
train --out b --features f --profile nonsense
train --out b --features f --init-network 3
tune --out b --features f --recipe nonsense
tune --out b --features f --recipe house
tune --out b --features f --metric nonsense
tune --out b --features f --training.nonsense 1
tune --out b --features f --searcher grid --trials 3
tune --out b --features f --searcher tpe --scheduler pbt
tune --out b --features f --trials 1000000
ensemble shipped --out b
export shipped
export shipped --out g --format pickle
export --out g
evaluate --features f
evaluate --bundle shipped --features f --training
compare shipped --features f
compare shipped shipped --features f --protocol.nonsense 1
plan
plan music
plan --simulate this
plan --simulate ten-million --nodes none
plan --simulate ten-million --price -1
plan --simulate ten-million --gpus 1
label music
label music --labels l --alarm nonsense=1
label music --labels l --alarm flips
label music --labels l --guard stale=2
label music --labels l --until late
label music --labels l --until 2001-01-01
label music --labels l --accept nonsense
label music --labels l --taxonomy nonsense
label music --labels ftp://server/labels
label music --labels l --embeddings l
embed music
embed music --out e --gone nonsense
learn music --out o --hidden -1
similar e
similar e track --duplicates
show l --limit 0
labels
labels nonsense
labels diff l nonsense
labels rollback l latest-x
labels export l --out o --version nonsense
labels diff l --out differences.txt
labels vacuum l --older-than 30
recipes --limit 0
doctor --recipe nonsense
doctor --workers 0
pull nonsense
pull mn04 --or nonsense
pull mn04 --sha256 x
cluster --nodes 0
cluster -- no-such-program-at-all
import-mels f --out o --long-tail 0
synthesize --out o --most 2 --fewest 3
synthesize --out o --seconds 5 1
demo --training.nonsense 1
demo --out s3://bucket/demo
"""

COMMANDS = [line for line in WRONG.splitlines() if line]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_wrong_command_is_one(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    word, *arguments = shlex.split(line)
    assert run(find(word), arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1, printed.err
    assert json.loads(printed.out.splitlines()[-1])["error"] in printed.err
    assert [path.name for path in tmp_path.iterdir()] == ["music"]


def test_every_job_has_a_wrong_command() -> None:
    assert {line.split()[0] for line in COMMANDS} == JOBS.keys()
