"""One training under clip_random with adjusted logits: in the table of methods, and with its leak in red. Real Ray."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.session.profiles import Profile
from cluster.storage.uri import Uri
from cluster.tables.features import read_features, read_roster
from mgc.bundle import load_bundle
from mgc.datasets.protocols import ClipRandom, GivenSplits
from mgc.datasets.splits import TRAIN
from mgc.errors import ConfigError, LeakageError
from pipelines import compare_balance
from pipelines.command.job import run
from pipelines.evaluation.evaluate import evaluate_bundle
from pipelines.evaluation.requests import EvaluateRequest
from tests.support import tiny_features

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]

LEAKING = ClipRandom(0.2, 0.3, leak="track")

FIELDS = {
    **tiny_features.FIELDS,
    "protocol.kind": "clip_random",
    "protocol.validation_share": 0.2,
    "protocol.test_share": 0.3,
    "protocol.leak": "track",
}
"""What makes the recipe small, and fit the features."""


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_features.write(tmp_path_factory.mktemp("features"))


@dataclass(frozen=True)
class Compared:
    """A comparison of one method: where it was written, its command line, and what was said."""

    out: Path
    arguments: list[str]
    printed: str
    said: str

    @property
    def bundle(self) -> Path:
        return self.out / "adjusted_after-0"


@pytest.fixture(scope="module")
def compared(features: str, ray_session: Profile, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """Trained, its logits adjusted, scored, and in a table."""
    out = tmp_path_factory.mktemp("compared")
    arguments = ["--features", features, "--out", str(out), "--methods", "adjusted_after", "--shots", "liu"]
    arguments += [word for name, value in FIELDS.items() for word in (f"--{name}", str(value))]
    printed, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
        code = run(compare_balance.command, arguments)
    assert code == 0, said.getvalue()
    return Compared(out, arguments, printed.getvalue(), said.getvalue())


def test_methods_are_compared_in_one_table_and_not_trained_twice(features: str, compared: Compared) -> None:
    results = json.loads((compared.out / "results.json").read_text())
    [row] = results["rows"]
    assert (row["method"], row["seed"]) == ("adjusted_after", 0)
    counts = read_roster(read_features(Uri.parse(features))[0], LEAKING).class_counts(TRAIN)
    assert results["genres"] == counts
    assert results["notices"] == ["Noise, not music."]
    # Of each genre are 20 to 100 clips.
    assert row["many"] is row["few"] is None
    assert 0 <= row["medium"] <= 1
    assert (compared.out / "results.md").read_text() in compared.printed
    adjustment = load_bundle(compared.bundle).adjustment
    assert adjustment is not None
    assert adjustment.tau == 1.0
    total = sum(counts.values())
    assert adjustment.priors_G == pytest.approx([counts[genre] / total for genre in tiny_features.GENRES])

    times = {path: path.stat().st_mtime_ns for path in compared.out.glob("*/*")}
    assert run(compare_balance.command, compared.arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in compared.out.glob("*/*")} == times
    assert json.loads((compared.out / "results.json").read_text()) == results


def test_a_leak_that_was_asked_for_is_red_in_the_report(
    features: str, compared: Compared, ray_session: Profile
) -> None:
    with pytest.raises(ConfigError, match="leak"):
        tiny_features.under(LEAKING).override({"protocol.leak": "none"})
    bundle = load_bundle(compared.bundle)
    assert bundle.trained_on is not None
    assert len(bundle.training.history) == 2
    data = bundle.training.data
    assert data.protocol.startswith("clip_random")
    assert data.leakage.asked_for == "track"
    assert data.leakage.tracks_on_two_sides > 20
    assert sum(side.clips for side in data.sides.values()) == tiny_features.TRACKS * tiny_features.CLIPS

    assert "LEAK, asked for: other clips of " in compared.said
    page = (compared.bundle / "report.html").read_text()
    header = page[page.index("<header>") : page.index("</header>")]
    assert header.index('class="notice leak"') < header.index("Noise, not music.")
    assert "tracks of the split “test” were heard in training" in header
    assert "tracks of the split “validation” were heard in training" in header
    assert "Numbers are clips" in page
    found = json.loads((compared.bundle / "metrics.json").read_text())["test"]
    clips = data.sides["test"].clips
    assert found["scores"]["unit"] == "clips"
    assert found["scores"]["tracks"] == clips
    assert [group["group"] for group in found["shots"]] == ["many", "medium", "few"]
    assert sum(group["tracks"] for group in found["shots"]) == clips
    assert json.loads((compared.bundle / "report.json").read_text())["shots"] == found["shots"]
    assert found["leakage"]["tracks_heard"] > 0.8 * found["leakage"]["tracks"]

    with pytest.raises(LeakageError, match="trained"):
        evaluate_bundle(
            EvaluateRequest(
                Uri.of_path(compared.bundle),
                Uri.parse(features),
                profile=ray_session,
                fields={"protocol.kind": "given"},
            )
        )


def test_a_bundle_that_does_not_say_what_it_was_trained_on_is_scored_with_a_notice(
    features: str, tmp_path: Path, ray_session: Profile
) -> None:
    out = str(tmp_path)
    tiny_features.bundle(tiny_features.under(GivenSplits()), None).save(out)
    assert (
        evaluate_bundle(EvaluateRequest(Uri.parse(out), Uri.parse(features), profile=ray_session, limit=4)).counts[
            "tracks"
        ]
        == 4
    )
    page = (tmp_path / "report.html").read_text()
    assert "Leakage could not be checked" in page
    assert "LEAK" not in page
    assert "4 tracks of" in page
