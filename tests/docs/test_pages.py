"""What the README says is true."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_three_lines_label_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = next(code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "load_bundle" in code)
    assert len([line for line in block.splitlines() if line]) == 3
    seconds = np.arange(22050 * 12) / 22050
    tone = 0.3 * np.sin(2 * np.pi * 220 * seconds) * (1 + np.sin(2 * np.pi * 2 * seconds))
    soundfile.write(tmp_path / "song.mp3", tone, 22050)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    from mgc import load_bundle

    assert capsys.readouterr().out.strip() in load_bundle().taxonomy.names


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / target).exists(), target
