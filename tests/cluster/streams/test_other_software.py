"""Every stage and task asks first whether it runs the driver's software. No Ray is needed for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from cluster.session.software import begin_work
from cluster.storage.uri import Uri
from cluster.streams.feed_rows import Side
from cluster.streams.listening import Listen, ListenRequest
from cluster.streams.predicting import Label
from cluster.streams.scoring import Score, ScoreRequest
from cluster.streams.sinks import AnswersSink, FeaturesSink, Staging
from mgc import schema
from mgc.datasets.protocols import GivenSplits
from mgc.errors import ResourceError
from mgc.software import Software
from tests.support import tiny_features
from tune.trial import train_alone, train_together

OTHER = Software("0.0.9", "0123456789ab", Software.here().versions)
NOTHING: Any = SimpleNamespace()


def listen(software: Software) -> None:
    Listen(ListenRequest(None, 1, schema.CATALOG, tiny_features.EXPERIMENT.hearing, software=software))


def label(software: Software) -> None:
    Label(NOTHING, NOTHING, software)


def score(software: Software) -> None:
    Score(NOTHING, ScoreRequest((1,), software=software), gpu=False)


def feed(software: Software) -> None:
    Side("train", GivenSplits(), software=software)(tiny_features.rows())


def stage_labels(software: Software) -> None:
    sink = AnswersSink(Staging(Uri.parse("/proc/nowhere")), 1)
    sink._software = software
    sink.write([schema.LABELS.empty_table()], None)


def write_features(software: Software) -> None:
    sink = FeaturesSink(NOTHING)
    sink._software = software
    sink.write([pa.table({})], None)


def try_alone(software: Software) -> None:
    train_alone({}, NOTHING, NOTHING, NOTHING, software)


def try_together(software: Software) -> None:
    train_together({}, NOTHING, NOTHING, NOTHING, software)


@pytest.mark.parametrize(
    "begin",
    [listen, label, score, feed, stage_labels, write_features, try_alone, try_together],
    ids=lambda f: f.__name__,
)
def test_it_refuses_a_driver_of_another_mgc(begin: Callable[[Software], None]) -> None:
    with pytest.raises(ResourceError) as refused:
        begin(OTHER)
    assert str(OTHER) in str(refused.value)
    assert str(Software.here()) in str(refused.value)


@pytest.mark.parametrize("begin", [feed, stage_labels, write_features], ids=lambda f: f.__name__)
def test_it_works_for_a_driver_of_the_same(begin: Callable[[Software], None]) -> None:
    begin(Software.here())


def test_a_library_is_named_with_both_versions() -> None:
    here = Software.here()
    versions = tuple((name, "1.26.4" if name == "numpy" else version) for name, version in here.versions)
    with pytest.raises(ResourceError) as refused:
        begin_work(replace(here, versions=versions))
    assert f"numpy: {dict(here.versions)['numpy']} on the node, 1.26.4 on the driver" in str(refused.value)


def test_requests_carry_the_software_of_who_makes_them(tmp_path: Path) -> None:
    assert ListenRequest(None, 1, schema.CATALOG, tiny_features.EXPERIMENT.hearing).software == Software.here()
    assert ScoreRequest((1,)).software == Side("train", GivenSplits()).software == Software.here()
