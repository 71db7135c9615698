"""Two epochs under clip_random: the leak is trained, scored and shown in red. Real Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.profiles import Profile
from mgc.bundle import load_bundle
from mgc.datasets.protocols import ClipRandom, GivenSplits
from mgc.errors import ConfigError, LeakageError
from pipelines import evaluate, train
from tests import tiny_features

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_features.write(tmp_path_factory.mktemp("features"))


def test_a_leak_that_was_asked_for_is_red_in_the_report(
    features: str, tmp_path: Path, ray_session: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tiny_features.under(ClipRandom(0.2, 0.3, leak="track"))
    out = str(tmp_path / "bundle")
    with pytest.raises(ConfigError, match="ask for the leak by name"):
        experiment.override({"protocol.leak": "none"})
    summary = train.build(experiment, features, out, profile=ray_session)
    assert summary.counts["epochs"] == 2
    bundle = load_bundle(out)
    assert bundle.trained_on is not None
    data = bundle.metrics["data"]
    assert data["protocol"].startswith("clip_random")
    assert data["leakage"]["asked_for"] == "track"
    assert data["leakage"]["tracks_on_two_sides"] > 20
    assert sum(side["clips"] for side in data["sides"].values()) == tiny_features.TRACKS * tiny_features.CLIPS

    counts = evaluate.build(out, features, profile=ray_session).counts
    assert counts["clips"] == data["sides"]["test"]["clips"]
    assert "LEAK, asked for: other clips of " in capsys.readouterr().err
    page = (tmp_path / "bundle" / "report.html").read_text()
    header = page[page.index("<header>") : page.index("</header>")]
    assert header.index('class="notice leak"') < header.index("Noise, not music.")
    assert "tracks of the split “test” were heard in training" in header
    assert "tracks of the split “validation” were heard in training" in header
    assert "Numbers are clips" in page
    found = json.loads((tmp_path / "bundle" / "metrics.json").read_text())["test"]
    assert found["scores"]["unit"] == "clips"
    assert found["scores"]["tracks"] == counts["clips"]
    assert found["leakage"]["tracks_heard"] > 0.8 * found["leakage"]["tracks"]

    with pytest.raises(LeakageError, match="were trained on"):
        evaluate.build(out, features, profile=ray_session, fields={"protocol.kind": "given"})


def test_a_bundle_that_does_not_say_what_it_was_trained_on_is_scored_with_a_notice(
    features: str, tmp_path: Path, ray_session: Profile
) -> None:
    out = str(tmp_path)
    tiny_features.bundle(tiny_features.under(GivenSplits()), None).save(out)
    assert evaluate.build(out, features, profile=ray_session, limit=4).counts["tracks"] == 4
    page = (tmp_path / "report.html").read_text()
    assert "Leakage could not be checked" in page
    assert "LEAK" not in page
    assert "4 tracks of" in page
