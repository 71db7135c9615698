"""`mgc tune --recipe RECIPE --features FEATURES --out FOLDER`: search a recipe, and keep the best trial as a bundle."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import click

import mgc
from cluster.session.connect import connect
from cluster.session.profiles import KEEPS_MEMORY, Profile
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import Uri, join
from cluster.training.in_memory import hold
from cluster.training.job import TrainingJob, plan_training
from mgc.bundle import Bundle
from mgc.configuration import short_hash, to_json
from mgc.datasets.protocols import name_of
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.errors import BundleError, ConfigError, TrainingError
from mgc.evaluation.leakage import check_division
from mgc.experiment import Experiment
from mgc.metrics import MadeWith, SearchFacts, TrainingFacts
from mgc.recipes.catalogue import find
from mgc.recipes.space import Space, shown
from mgc.training.course import kept_row, read_best
from pipelines import evaluate, train
from pipelines.command.job import OVERRIDES, PROFILE, URI, Summary, describe, main, overrides, say
from pipelines.training.publish import adjusted, publish
from pipelines.training.source import PreparedFeatures, check
from tune.records import SearchRecord, TrialRecord
from tune.report import render_search
from tune.search import Metric, Scheduler, SearchConfig, Searcher, check_search, places, search
from tune.spaces import read_space
from tune.trial import Held, Streamed

TRIALS: Final = 20
"""Of a search that is no grid, unless it is told otherwise."""

FILES: Final = {"report": "report.html", "trials": "trials.parquet", "json": "search.json"}


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        experiment: the recipe as it is outside of the space.
        space: what is searched.
        config: how.
        features: URI of prepared features.
        out: folder for `FILES`, for the bundle in `bundle/`, and for Tune's own files in `trials/`.
        workers: of each trial.
        at_once: trials at a time, at most; None for as many as fit.
        limit: tracks of each split; None for all.
        refit: train the best once more, on training and validation together.
        test: score the bundle on the test split.
    """

    experiment: Experiment
    space: Space
    config: SearchConfig
    features: str
    out: str
    workers: int = 1
    at_once: int | None = None
    limit: int | None = None
    refit: bool = False
    test: bool = False

    @property
    def bundle(self) -> str:
        """Folder of the best bundle."""
        return join(self.out, "bundle")

    def key(self, data: PreparedFeatures) -> str:
        """Names the search: the same for the same trials, whatever is done with the best one."""
        experiment, space, config = self.experiment.to_json(), self.space.to_json(), to_json(self.config)
        return short_hash([experiment, space, config, data.fingerprint, self.limit, self.workers])


def build(
    order: Order, profile: Profile | str | None = None, overwrite: bool = False, dry_run: bool = False
) -> Summary:
    """Search, report, and save the best trial; connects to Ray unless it is given the profile of a session."""
    check_search(order.config, order.space, order.experiment, order.workers)
    data = PreparedFeatures(order.features, order.experiment, order.limit)
    check(data, order.experiment)
    key = order.key(data)
    counts: dict[str, Any] = {"trials": order.config.trials or order.space.size, **data.totals}
    if dry_run:
        fixed = {name: value for name, value in order.experiment.dotted().items() if name not in order.space.fields}
        searched = {f"space {name}": value for name, value in order.space.to_json().items()}
        protocol = {"protocol": name_of(order.experiment.protocol)}
        describe({**fixed, **searched, **to_json(order.config), **data.totals, **protocol, "run": key})
    protocol_of = order.experiment.protocol
    check_division(data.roster, protocol_of.leak, protocol_of.kind, data.where)
    if dry_run:
        return Summary("dry_run", counts)
    outputs = {"bundle": redact(order.bundle)}
    outputs |= {name: redact(join(order.out, file)) for name, file in FILES.items()}
    before = _before(order.out)
    wanted = {"refit": order.refit, "test": order.test}
    if before.get("key") == key and before.get("finished") == wanted:
        say(f"{redact(order.out)}: this very search is done already.")
        return Summary("up_to_date", before["counts"], outputs)
    if before.get("key", key) != key and not overwrite:
        raise BundleError(
            f"{redact(order.out)}: there is another search here; give another --out, or --overwrite to replace it."
        )
    # Trainers leak room where there is no dashboard.
    with connect(
        train_workers=order.workers, profile=profile, dashboard=order.workers > 1, environment=KEEPS_MEMORY
    ) as at:
        opened = data.open(at, join(order.out, "trials"))
        job = plan_training(opened.measured, opened.facts, opened.counts, order.experiment, at)
        record = _searched(order, data, job, key)
        record.write(order.out)
        files.write_bytes(join(order.out, FILES["report"]), render_search(record).encode())
        for trial in record.trials:
            if trial.reason:
                say(f"trial {trial.number} failed: {trial.reason}")
        best = record.best
        if best is None:
            first = next((trial.reason for trial in record.trials if trial.reason), "none finished an epoch")
            raise TrainingError(
                f"{redact(order.out)}: none of {len(record.trials)} trials gave a model (the first: {first}); "
                "see report.html there."
            )
        say(
            f"best of {len(record.trials)} trials: number {best.number}, validation {order.config.metric} "
            f"{best.score:.3f} after {best.epochs} epochs ({shown(best.point)})"
        )
        counts |= Counter(trial.status for trial in record.trials)
        counts |= {"best_trial": best.number, f"best_{order.config.metric}": round(best.score or 0.0, 4)}
        _keep(order, data, job, best, key)
        if order.test:
            scored = evaluate.build(order.bundle, order.features, profile=at)
            counts |= {f"test_{name}": value for name, value in scored.counts.items()}
    record.write(order.out, {"finished": wanted, "counts": counts})
    say(f"the best as a bundle: {redact(order.bundle)}; all trials: {outputs['report']}")
    return Summary("done", counts, outputs)


def _before(out: str) -> dict[str, Any]:
    """The search that lies in a folder; empty where there is none."""
    uri = join(out, FILES["json"])
    if not files.exists(uri):
        return {}
    try:
        found = json.loads(files.read_text(uri))
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise BundleError(f"{redact(uri)}: this is no record of a search; remove it, or give another --out.")
    return found


def _searched(order: Order, data: PreparedFeatures, job: TrainingJob, key: str) -> SearchRecord:
    """Run the trials, or the rest of them."""
    began = time.monotonic()
    at = job.profile
    room = places(at, order.workers, order.at_once)
    trial = replace(job, profile=room.profile)
    trials = order.config.trials or order.space.size
    say(
        f"searching {order.experiment.recipe}: {trials} trials ({order.config.searcher}, {order.config.scheduler}), "
        f"{data.totals['train_clips']} clips, {len(job.taxonomy)} genres, {room.at_once} at a time"
    )
    folder = join(order.out, "trials")
    held: Held | Streamed
    if order.workers == 1:
        held = Held(*(hold(data.plain(split, at)) for split in (TRAIN, VALIDATION)))
    else:
        held = Streamed(data.streams, join(folder, key, "trainers"))
    found = search(order.config, order.space, trial, held, room, folder, key)
    facts = {
        "features": f"{data.where}: {json.dumps(data.totals).strip('{}').replace(chr(34), '')}",
        "protocol": name_of(order.experiment.protocol),
        "epochs, at most": str(order.experiment.training.epochs),
        "settings": json.dumps(to_json(order.config)).strip("{}").replace('"', ""),
        "trials at a time": f"{room.at_once}, each of {order.workers} worker(s) with {trial.threads} thread(s)",
        "made with": f"mgc {mgc.__version__}, {platform.machine()}, {at.cores} cores, {at.gpus} GPUs",
    }
    config = order.config
    return SearchRecord(
        order.experiment.recipe, order.space, config.metric, config.searcher, config.scheduler, key, found,
        time.monotonic() - began, facts, data.notices,
    )  # fmt: skip


def _keep(order: Order, data: PreparedFeatures, job: TrainingJob, best: TrialRecord, key: str) -> None:
    """Save the best trial as a bundle, trained once more if asked."""
    assert best.checkpoint is not None
    experiment = order.space.apply(order.experiment, best.point)
    with tempfile.TemporaryDirectory() as folder:
        files.copy_tree(best.checkpoint, folder)
        weights, history = read_best(Path(folder))
    job = job.of(experiment)
    model = job.model()
    model.load_state_dict(weights)
    facts = TrainingFacts(
        made_with=MadeWith(workers=order.workers, accumulation=job.profile.accumulation),
        search=SearchFacts(key=key, trial=best.number, point=dict(best.point)),
    )
    bundle = Bundle(experiment, job.taxonomy, job.normalization, model.eval(), facts)
    bundle = adjusted(bundle, data.plain(VALIDATION, job.profile), job)
    if not order.refit:
        publish(bundle, history, data, short_hash([key, best.number]), data.totals, order.bundle)
        return
    kept = kept_row(experiment.training, history)["epoch"]
    chosen = bundle.training.adjustment
    refit = refitted(experiment, kept, None if chosen is None else chosen.tau)
    folder = join(order.out, "trials", key, "refit")
    train.build(refit, order.features, order.bundle, folder, job.profile, order.workers, order.limit, overwrite=True)


def refitted(experiment: Experiment, kept: int, tau: float | None) -> Experiment:
    """The experiment on training and validation together; what validation chose is fixed.

    Where the rate is constant, as many epochs as were kept; else all of them, since the rate falls to their end.

    Args:
        experiment: of the best trial.
        kept: the epoch that was kept, counted from 1.
        tau: the adjustment that was chosen, None where there was nothing to choose.
    """
    fields: dict[str, Any] = {"protocol.refit": True, "training.select": "last", "training.patience": 0}
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


@click.command("tune", context_settings=OVERRIDES)
@click.option(
    "--recipe", default="house-thumbnail", show_default=True, help="What to search; `mgc recipes` lists them."
)
@click.option("--space", type=URI, help="JSON or YAML file of what to vary; by default the recipe's own space.")
@click.option("--features", type=URI, required=True, help="Folder that `mgc prepare` wrote.")
@click.option("--out", type=URI, required=True, help="Folder of the search: report, trials, and the best as bundle/.")
@click.option("--trials", type=click.IntRange(1), help=f"How many; {TRIALS} by default, of a grid all its points.")
@click.option(
    "--searcher",
    type=click.Choice(get_args(Searcher)),
    default="random",
    show_default=True,
    help="How points are drawn.",
)
@click.option(
    "--scheduler",
    type=click.Choice(get_args(Scheduler)),
    default="asha",
    show_default=True,
    help="What ends trials early.",
)
@click.option(
    "--metric",
    type=click.Choice(get_args(Metric)),
    default="macro_f1",
    show_default=True,
    help="Of the validation, by which trials are compared.",
)
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End all trials after so long.")
@click.option(
    "--grace",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Epochs before asha may end a trial; between two changes of pbt.",
)
@click.option(
    "--reduction",
    type=click.IntRange(2),
    default=3,
    show_default=True,
    help="asha and hyperband go on with one of so many.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the points; that of the trainings is --training.seed.",
)
@click.option("--at-once", type=click.IntRange(1), help="Trials at a time; by default one a core or a GPU.")
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Data-parallel workers of each trial."
)
@PROFILE
@click.option("--limit", type=click.IntRange(2), help="Only N tracks of each split, spread over it.")
@click.option("--refit", is_flag=True, help="Train the best once more, on training and validation together.")
@click.option("--test", is_flag=True, help="Score the best on the test split, once.")
@click.option("--overwrite", is_flag=True, help="Replace another search at --out.")
@click.option("--dry-run", is_flag=True, help="Print the configuration and what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    recipe: str,
    space: Uri | None,
    features: Uri,
    out: Uri,
    trials: int | None,
    searcher: Searcher,
    scheduler: Scheduler,
    metric: Metric,
    seconds: float | None,
    grace: int,
    reduction: int,
    seed: int,
    at_once: int | None,
    workers: int,
    profile: str | None,
    limit: int | None,
    refit: bool,
    test: bool,
    overwrite: bool,
    dry_run: bool,
    fields: tuple[str, ...],
) -> Summary:
    """Search the fields of a recipe, and save the best trial by validation as a bundle.

    A search that was killed goes on when the same command is given again. Fields outside of the space can be set by
    their dotted names, for example --training.epochs 3.
    """
    found = find(recipe)
    searched = read_space(space.text) if space else found.space
    if searched is None:
        raise ConfigError(f"recipe {recipe} has no space of its own; name a file with --space.")
    if searcher == "grid":
        if trials is not None and trials != searched.size:
            points = searched.size or "without end"
            raise ConfigError(f"--trials {trials}: a grid has all its points ({points}); leave --trials away.")
        trials = None
    else:
        trials = trials or TRIALS
    config = SearchConfig(
        searcher=searcher, scheduler=scheduler, trials=trials, metric=metric, seconds=seconds, grace_epochs=grace,
        reduction=reduction, seed=seed,
    )  # fmt: skip
    experiment = found.build().override(overrides(fields))
    order = Order(experiment, searched, config, features.text, out.text, workers, at_once, limit, refit, test)
    return build(order, profile, overwrite, dry_run)


if __name__ == "__main__":
    main(command)
