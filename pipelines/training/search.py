"""Search the fields of a recipe, and save the best trial as a bundle."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import JsonValue

import mgc
from cluster.session.connect import connect
from cluster.session.profiles import KEEPS_MEMORY
from cluster.storage import files
from cluster.storage.uri import Uri
from cluster.training.in_memory import hold_clips
from cluster.training.job import TrainingJob, plan_training
from cluster.training.trained import load_trained
from mgc.configuration import JsonObject, short_hash, to_json
from mgc.datasets.protocols import name_of
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import BundleError, ConfigError, TrainingError
from mgc.evaluation.leakage import check_division
from mgc.experiment import Experiment
from mgc.metrics import SearchFacts
from mgc.recipes.catalogue import RECIPES, Recipe
from mgc.recipes.space import Space, shown
from mgc.training.course import kept_row
from mgc.units import format_count
from pipelines.command.job import Summary, describe, say
from pipelines.evaluation.evaluate import evaluate_bundle
from pipelines.evaluation.requests import EvaluateRequest
from pipelines.training.publish import adjust_logits, publish_bundle
from pipelines.training.requests import SearchRequest, TrainRequest
from pipelines.training.source import PreparedFeatures, check_training_data
from pipelines.training.train import train_bundle
from tune.config import DEFAULT_TRIALS, Searcher
from tune.records import SearchRecord, TrialRecord
from tune.report import render_search
from tune.search import Search, check_search, share_out
from tune.spaces import read_space
from tune.trial import InMemoryData, StreamedData

FILES: Final = {"report": "report.html", "trials": "trials.parquet", "json": "search.json"}
"""Files of a search by their names in the summary."""


def choose_space(recipe: Recipe, space: Uri | None) -> Space:
    """Return the space of a file, or else the recipe's own.

    Raises:
        ConfigError: there is none.
    """
    chosen = read_space(space) if space else recipe.space
    if chosen is None:
        those = ", ".join(name for name, each in RECIPES.items() if each.space is not None)
        raise ConfigError(f"recipe {recipe.name} has no space of its own; name a file with --space, or search {those}.")
    return chosen


def count_trials(searcher: Searcher, trials: int | None, space: Space) -> int | None:
    """Return the number of trials for `SearchConfig`: None for a grid, which tries all its points.

    Raises:
        ConfigError: a grid was given a different number of trials.
    """
    if searcher != "grid":
        return trials or DEFAULT_TRIALS
    if trials is not None and trials != space.size:
        points = space.size or "without end"
        raise ConfigError(f"--trials {trials}: a grid tries all its points ({points}); leave out --trials.")
    return None


def search_recipe(request: SearchRequest) -> Summary:
    """Search, write the report, and save the best trial, unless the same search is already done.

    Connects to Ray unless the request has the profile of an open session.

    Raises:
        BundleError: another search is at `out`.
        ConfigError: the requested search is impossible.
        FeaturesError: the features do not fit the recipe.
        LeakageError: the sides leak more than the protocol allows.
        TrainingError: no trial gave a model.
    """
    experiment, out, protocol = request.experiment, request.out, request.experiment.protocol
    check_search(request.config, request.space, experiment, request.workers)
    data = PreparedFeatures(request.features, experiment, request.limit)
    check_training_data(data, experiment)
    key = _search_key(request, data)
    counts: JsonObject = {"trials": request.expected_trials, **data.totals}
    if request.dry_run:
        _describe_search(request, data, key)
    check_division(data.roster, protocol.leak, protocol.kind, data.where)
    if request.dry_run:
        return Summary("dry_run", counts)
    outputs = {"bundle": str(request.bundle), **{name: str(out / file) for name, file in FILES.items()}}
    earlier = _read_search(out)
    wanted: JsonObject = {"refit": request.refit, "test": request.test}
    if earlier is not None and (earlier.key, earlier.finished) == (key, wanted):
        say(f"{out}: this search is already done.")
        return Summary("up_to_date", earlier.counts, outputs)
    if earlier is not None and earlier.key not in (key, None) and not request.overwrite:
        raise BundleError(f"{out}: another search lies here; choose another --out, or replace it with --overwrite.")
    # Without a dashboard, a trial that is stopped early keeps its placement group, and later trials wait forever
    # (ray#54305).
    with connect(
        train_workers=request.workers,
        profile=request.profile,
        dashboard=request.workers > 1,
        environment=KEEPS_MEMORY,
    ) as profile:
        streams = data.open(profile, request.trials)
        job = plan_training(streams.sample, streams.facts, streams.counts, experiment, profile)
        record = _run_trials(request, data, job, key)
        best = _report_trials(request, record)
        counts |= Counter(trial.status for trial in record.trials)
        counts |= {"best_trial": best.number, f"best_{request.config.metric}": round(best.score or 0.0, 4)}
        _save_best(request, data, job, best, key)
        if request.test:
            scored = evaluate_bundle(EvaluateRequest(request.bundle, request.features, profile=profile))
            counts |= {f"test_{name}": value for name, value in scored.counts.items()}
    record.write(out, {"finished": wanted, "counts": counts})
    say(f"best bundle: {request.bundle}; all trials: {outputs['report']}")
    return Summary("done", counts, outputs)


def _search_key(request: SearchRequest, data: PreparedFeatures) -> str:
    """Return a name for the search. It depends only on the trials, not on what is done with the best one."""
    experiment, space, config = request.experiment.to_json(), request.space.to_json(), to_json(request.config)
    return short_hash([experiment, space, config, data.fingerprint, request.limit, request.workers])


def _describe_search(request: SearchRequest, data: PreparedFeatures, key: str) -> None:
    fields = request.experiment.dotted()
    fixed = {name: value for name, value in fields.items() if name not in request.space.fields}
    searched = {f"space {name}": value for name, value in request.space.to_json().items()}
    protocol = {"protocol": name_of(request.experiment.protocol)}
    describe({**fixed, **searched, **to_json(request.config), **data.totals, **protocol, "run": key})


@dataclass(frozen=True)
class _EarlierSearch:
    """Facts from `search.json` about the search that wrote it.

    Attributes:
        key: name of the search; None if the file has none.
        finished: what was done with the best trial; None if the search is unfinished.
        counts: counts of its summary.
    """

    key: JsonValue
    finished: JsonValue
    counts: JsonObject


def _read_search(out: Uri) -> _EarlierSearch | None:
    """Return the search in a folder; None if there is none.

    Raises:
        BundleError: the file is not a record of a search.
    """
    uri = out / FILES["json"]
    if not files.exists(uri):
        return None
    try:
        found = json.loads(files.read_text(uri))
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise BundleError(f"{uri}: this is not the record of a search; remove it, or choose another --out.")
    return _EarlierSearch(found.get("key"), found.get("finished"), found.get("counts", {}))


def _run_trials(request: SearchRequest, data: PreparedFeatures, job: TrainingJob, key: str) -> SearchRecord:
    """Run the trials, or the rest of them."""
    began = time.monotonic()
    profile, config, experiment = job.profile, request.config, request.experiment
    room = share_out(profile, request.workers, request.at_once)
    trial = replace(job, profile=room.profile)
    expected = request.expected_trials
    wanted = "trials without end" if expected is None else format_count(expected, "trial")
    say(
        f"searching {experiment.recipe}: {wanted} ({config.searcher}, {config.scheduler}), "
        f"{format_count(data.totals['train_clips'], 'clip')}, {format_count(len(job.taxonomy), 'genre')}, "
        f"{room.at_once} at a time"
    )
    clips: InMemoryData | StreamedData
    if request.workers == 1:
        clips = InMemoryData(*(hold_clips(data.stream_split(split, profile)) for split in (TRAIN, VALIDATION)))
    else:
        clips = StreamedData(data.stream_job, request.trials / key / "trainers")
    trials = Search(config, request.space, trial, clips, room, request.trials, key).run()
    return SearchRecord(
        recipe=experiment.recipe,
        space=request.space,
        metric=config.metric,
        searcher=config.searcher,
        scheduler=config.scheduler,
        key=key,
        trials=trials,
        seconds=time.monotonic() - began,
        facts={
            "features": f"{data.where}: {json.dumps(data.totals).strip('{}').replace(chr(34), '')}",
            "protocol": name_of(experiment.protocol),
            "epochs, at most": str(experiment.training.epochs),
            "settings": json.dumps(to_json(config)).strip("{}").replace('"', ""),
            "trials at a time": f"{room.at_once}, each of {request.workers} worker(s) with {trial.threads} thread(s)",
            "made with": f"mgc {mgc.__version__}, {platform.machine()}, {format_count(profile.cores, 'core')}, "
            f"{format_count(profile.gpus, 'GPU')}",
        },
        notices=data.notices,
    )


def _report_trials(request: SearchRequest, record: SearchRecord) -> TrialRecord:
    """Write the report and return the best trial.

    Raises:
        TrainingError: no trial gave a model.
    """
    record.write(request.out)
    files.write_bytes(request.out / FILES["report"], render_search(record).encode())
    for trial in record.trials:
        if trial.reason:
            say(f"trial {trial.number} failed: {trial.reason}")
    best = record.best
    if best is None:
        first = next((trial.reason for trial in record.trials if trial.reason), "no trial finished an epoch")
        raise TrainingError(
            f"{request.out}: of {format_count(len(record.trials), 'trial')} none gave a model (the first: {first}); "
            "see report.html there."
        )
    say(
        f"best of {format_count(len(record.trials), 'trial')}: number {best.number}, validation "
        f"{request.config.metric} {best.score:.3f} after {format_count(best.epochs, 'epoch')} ({shown(best.point)})"
    )
    return best


def _save_best(request: SearchRequest, data: PreparedFeatures, job: TrainingJob, best: TrialRecord, key: str) -> None:
    """Save the best trial as a bundle, or train it once more if the request asks for that."""
    assert best.checkpoint is not None
    experiment = request.space.apply(request.experiment, best.point)
    job = job.of(experiment)
    with tempfile.TemporaryDirectory() as folder:
        files.copy_tree(best.checkpoint, Uri.of_path(folder))
        bundle, history = load_trained(Path(folder), job, request.workers)
    bundle = adjust_logits(bundle, data.stream_split(VALIDATION, job.profile), job)
    found = SearchFacts(key=key, trial=best.number, point=dict(best.point))
    bundle = replace(bundle, training=bundle.training.updated(search=found))
    if not request.refit:
        publish_bundle(bundle, history, data, short_hash([key, best.number]), data.totals, request.bundle)
        return
    kept = int(kept_row(experiment.training, history)["epoch"])
    chosen = bundle.training.adjustment
    train_bundle(
        TrainRequest(
            experiment=plan_refit(experiment, kept, None if chosen is None else chosen.tau),
            out=request.bundle,
            features=request.features,
            checkpoints=request.trials / key / "refit",
            workers=request.workers,
            limit=request.limit,
            profile=job.profile,
            overwrite=True,
        )
    )


def plan_refit(experiment: Experiment, kept: int, tau: float | None) -> Experiment:
    """Return the experiment on training and validation together, with the choices of validation fixed.

    With a constant learning rate it trains up to the epoch that was kept. Otherwise it trains for all epochs, since the
    rate falls until the last one.

    Args:
        experiment: experiment of the best trial.
        kept: epoch that was kept, counted from 1.
        tau: chosen adjustment; None if there was no choice.
    """
    fields: JsonObject = {"protocol.refit": True, "training.select": "last", "training.patience": 0}
    training = experiment.training
    if training.schedule == "constant":
        fields |= (
            {"training.head_epochs": kept - training.epochs}
            if training.retrains(kept - 1)
            else {"training.epochs": kept}
        )
    if tau is not None:
        fields["training.adjust_after"] = [tau] if tau else []
    return experiment.override({name: json.dumps(value) for name, value in fields.items()})
