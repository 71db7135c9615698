"""Score a bundle on a split of prepared features, and write its report."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.dataset as pads

from cluster.bundles import answer_in, open_bundle
from cluster.session.connect import connect
from cluster.session.profiles import Profile
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.streams.feed import feed
from cluster.streams.scoring import ScoreRequest, answer_clips
from cluster.tables.features import read_features, read_roster
from mgc import schema
from mgc.bundle import Bundle
from mgc.bundle_facts import describe_model, list_history, list_leaks, override_protocol
from mgc.bundle_names import BundleName
from mgc.datasets.protocols import name_of
from mgc.datasets.roster import Roster
from mgc.errors import FeaturesError
from mgc.evaluation.answers import answers, map_of, robustness_of, scores_of
from mgc.evaluation.calibration import calibration
from mgc.evaluation.embedding_map import choose
from mgc.evaluation.leakage import Overlap, check_overlap, measure_overlap, warn_of_overlap
from mgc.evaluation.report import ReportContent, render_report, report_json
from mgc.evaluation.robustness import SHARES
from mgc.evaluation.scores import Scores
from mgc.evaluation.shots import shot_scores, shots_to_json
from mgc.experiment import Experiment
from mgc.metrics import EvaluationFacts, EvaluationLeakage
from mgc.units import format_count
from pipelines.command.job import Summary, describe, say
from pipelines.evaluation.requests import MAP_TRACKS, EvaluateRequest

WRITTEN: Final = ("metrics.json", "report.json", "report.html")
"""Files that an evaluation writes."""


@dataclass(frozen=True)
class _Task:
    """A bundle and the tracks to score it on.

    Attributes:
        bundle: the bundle.
        experiment: its experiment, with the protocol that divides the rows.
        dataset: features table.
        shape: shape of a clip.
        roster: sides of the tracks.
        split: split to score.
        where: name of the features, for messages.
        overlap: how much of the split was trained on; None if the bundle does not say.
    """

    bundle: Bundle
    experiment: Experiment
    dataset: pads.FileSystemDataset
    shape: tuple[int, ...]
    roster: Roster
    split: str
    where: str
    overlap: Overlap | None

    @property
    def counts(self) -> dict[str, int]:
        """Number of tracks of the split, and of clips if they are scored one by one."""
        size = self.roster.size(self.split)
        return {"tracks": size.tracks} | ({"clips": size.clips} if self.experiment.protocol.unit == "clips" else {})

    @property
    def leakage(self) -> EvaluationLeakage:
        """How much of the split was trained on."""
        protocol = self.experiment.protocol
        leakage = EvaluationLeakage(asked_for=protocol.leak, checked=self.overlap is not None)
        if self.overlap is None:
            return leakage
        says = warn_of_overlap(self.overlap, self.split, protocol.unit)
        return leakage.updated(**self.overlap.to_json(), says=says)


def evaluate_bundle(request: EvaluateRequest) -> Summary:
    """Score a bundle and write its report.

    Connects to Ray unless the request has the profile of an open session.

    Raises:
        BundleError: the bundle does not fit the features.
        FeaturesError: there is nothing to score, or no place for the report of a bundle that has a name.
        LeakageError: the bundle was trained on tracks of the split.
    """
    task = _open_task(request)
    target = _choose_target(request)
    protocol, counts = task.experiment.protocol, task.counts
    if request.dry_run:
        describe(
            {
                "bundle": task.bundle.id,
                "split": task.split,
                "protocol": name_of(protocol),
                **counts,
                "leakage": task.leakage.to_json(),
                "would write": ", ".join(str(target / name) for name in WRITTEN),
            }
        )
    if task.overlap is not None:
        check_overlap(task.overlap, protocol.leak, task.split, task.where)
    if request.dry_run:
        return Summary("dry_run", counts)
    with connect(profile=request.profile) as profile:
        clips = _answer_clips(task, request, profile)
    scores, bundle, content = _score(task, clips, request)
    texts = {
        "metrics.json": json.dumps(bundle.metrics_to_json(), indent=2) + "\n",
        "report.json": json.dumps(report_json(content), indent=2, allow_nan=False) + "\n",
        "report.html": render_report(content),
    }
    for name in WRITTEN:
        files.write_bytes(target / name, texts[name].encode())
    _say_scores(task, scores)
    figures = {"accuracy": round(scores.accuracy, 4), "macro_f1": round(scores.macro_f1, 4)}
    outputs = {"report": str(target / "report.html"), "json": str(target / "report.json")}
    return Summary("done", {**counts, **figures}, outputs)


def _open_task(request: EvaluateRequest) -> _Task:
    """Open the bundle and its features, and divide the rows."""
    where, split = str(request.features), request.split
    bundle = open_bundle(request.bundle)
    if request.taxonomy is not None:
        bundle = answer_in(bundle, request.taxonomy)
    dataset, facts = read_features(request.features)
    bundle.check_features(facts.features_id, where)
    bundle.experiment.check_listening(facts, where, "prepare features with the plan of the bundle")
    experiment = override_protocol(bundle, request.fields)
    roster = read_roster(dataset, experiment.protocol).limited(request.limit, (split,))
    if not roster.size(split).tracks:
        raise FeaturesError(
            f"{where}: no labelled clips in the split {split!r} (protocol {name_of(experiment.protocol)}); choose "
            "another --split, or divide in another way (--protocol.kind artist, --protocol.test_share 0.3)."
        )
    bundle.check_taxonomy(list(roster.class_counts(split)), where)
    overlap = None if bundle.trained_on is None else measure_overlap(roster, split, bundle.trained_on)
    return _Task(bundle, experiment, dataset, facts.shape, roster, split, where, overlap)


def _choose_target(request: EvaluateRequest) -> Uri:
    """Return the folder of the report."""
    if request.out is not None:
        return request.out
    if isinstance(request.bundle, BundleName):
        raise FeaturesError(f"the bundle {request.bundle.resolved} is mgc's own; give --out for its report.")
    if request.taxonomy is not None:
        raise FeaturesError(f"{request.bundle}: it keeps the scores of its own genres; give --out for those of others.")
    return request.bundle


def _answer_clips(task: _Task, request: EvaluateRequest, profile: Profile) -> pa.Table:
    """Return the predictions for each clip of the split. See `answer_clips`."""
    only = None if request.limit is None else task.roster.only(task.split)
    clips = feed(task.dataset, task.split, profile, task.experiment, only)
    drawn = choose(task.roster.genres(task.split), MAP_TRACKS) if request.draw_map else []
    zeroed = SHARES if request.robustness else ()
    return answer_clips(clips, task.bundle, ScoreRequest(task.shape, drawn, zeroed), profile)


def _score(task: _Task, clips: pa.Table, request: EvaluateRequest) -> tuple[Scores, Bundle, ReportContent]:
    """Score the predictions. Return the scores, the bundle with a note of them, and the content of the report.

    Raises:
        FeaturesError: not every track or clip was answered.
    """
    bundle, unit = task.bundle, task.experiment.protocol.unit
    given = answers(clips, bundle.taxonomy, unit)
    scores = scores_of(given, bundle.taxonomy)
    expected = task.counts[unit]
    if scores.tracks != expected:
        raise FeaturesError(f"{task.where}: {scores.tracks} of {expected} {unit} were scored; run the job again.")
    tracks = task.counts["tracks"]
    how = (
        "clips of a track averaged" if unit == "tracks" else f"of {format_count(tracks, 'track')}, each clip by itself"
    )
    description = f"{scores.tracks} {unit} of {task.where}, {how}; protocol {name_of(task.experiment.protocol)}"
    notices = list(dict.fromkeys([*bundle.training.notices, *schema.notices_of(task.dataset.schema)]))
    if bundle.trained_on is None:
        notices.append("Leakage could not be checked: this bundle does not say which tracks it was trained on.")
    trained = bundle.training.data.genre_counts
    shots = shot_scores(scores.confusion, scores.genres, [trained.get(g, 0) for g in scores.genres]) if trained else ()
    evaluation = EvaluationFacts(
        split=task.split,
        description=description,
        leakage=task.leakage,
        scores=scores.to_json(),
        shots=tuple(shots_to_json(shots)),
    )
    bundle = replace(bundle, evaluation=evaluation)
    kind = bundle.experiment.front_end.kind
    content = ReportContent(
        title=f"{bundle.experiment.recipe}: score on {task.split}",
        notices=notices,
        leaks=list_leaks(bundle),
        model=describe_model(bundle, "" if request.taxonomy is None else str(request.taxonomy)),
        scores=scores,
        split_name=task.split,
        split_description=description,
        history=list_history(bundle),
        calibration=calibration(given.truth_N, given.probabilities_NG, given.groups),
        robustness=robustness_of(clips, bundle.taxonomy, kind, unit) if request.robustness else None,
        embedding_map=map_of(clips, bundle.taxonomy) if request.draw_map else None,
        shots=shots,
        kept_epoch=bundle.training.kept_epoch,
    )
    return scores, bundle, content


def _say_scores(task: _Task, scores: Scores) -> None:
    sure = scores.accuracy_interval
    ends = f" ({sure.low:.3f} to {sure.high:.3f}, 95 % over {scores.groups} {scores.group_kind})" if sure else ""
    say(
        f"{task.split}: accuracy {scores.accuracy:.3f}{ends}, macro-F1 {scores.macro_f1:.3f}, {scores.tracks} "
        f"{task.experiment.protocol.unit}; chance {scores.chance:.3f}, always {scores.majority_genre}: "
        f"{scores.majority_accuracy:.3f}"
    )
    if task.leakage.says:
        say(task.leakage.says)
