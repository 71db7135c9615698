"""`mgc export`: a file from which a program that knows nothing of mgc gets the same answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mgc.models.architecture import build_model
from mgc.models.guess import GuessConfig
from pipelines.command.job import run
from pipelines.export import command
from tests.unit.small_bundle import EXPERIMENT, bundle, clips
from tests.unit.talking_bundle import NETWORK, TAGS, tagged


def test_a_stranger_gets_the_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = bundle()
    made.save(tmp_path / "bundle")
    (tmp_path / "bundle" / "NOTICE").write_text("who made it\n")
    words = [str(tmp_path / "bundle"), "--format", "onnx", "--out", str(tmp_path / "a" / "network.onnx")]
    assert run(command, [*words, "--dry-run"]) == 0
    assert not (tmp_path / "a").exists()
    assert "16 x 32 uint8 (log_mel)" in capsys.readouterr().out
    assert run(command, words) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["outputs"] == {"onnx": words[-1], "bundle_id": made.id}
    session = onnxruntime.InferenceSession(words[-1])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(made.taxonomy.names)
    assert (facts["bundle_id"], facts["NOTICE"]) == (made.id, "who made it\n")
    [given] = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("features", "tensor(uint8)", ["clips", 16, "frames"])
    (logits_NG,) = session.run(["logits"], {"features": clips(3)})
    np.testing.assert_allclose(logits_NG, made.predictor().logits(clips(3)), rtol=1e-4, atol=1e-5)


def test_a_file_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "network.onnx"
    bundle().save(tmp_path / "one")
    tagged(NETWORK).save(tmp_path / "two")
    assert run(command, [str(tmp_path / "one"), "--out", str(out)]) == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert run(command, [str(tmp_path / "one"), "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["status"] == "up_to_date"
    assert run(command, [str(tmp_path / "two"), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--overwrite" in error
    assert out.read_bytes() == before
    assert run(command, [str(tmp_path / "two"), "--out", str(out), "--overwrite"]) == 0
    assert json.loads(onnxruntime.InferenceSession(out).get_modelmeta().custom_metadata_map["classes"]) == list(TAGS)


def test_a_guess_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = replace(EXPERIMENT, model=GuessConfig())
    bundle(experiment=experiment, model=build_model(GuessConfig(), (16, 32), 3).eval()).save(tmp_path / "guess")
    assert run(command, [str(tmp_path / "guess"), "--out", str(tmp_path / "network.onnx")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a guess has no network" in error
    assert not (tmp_path / "network.onnx").exists()
