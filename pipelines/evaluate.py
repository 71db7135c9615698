"""`mgc evaluate --bundle BUNDLE --features FEATURES`: score a bundle on a split, and write its report."""

from __future__ import annotations

import json
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster import storage
from cluster.profiles import Profile
from cluster.session import connect
from cluster.streams import clip_logits
from cluster.tables import read_features, read_roster
from cluster.trainer import feed
from mgc import schema
from mgc.bundle import Bundle
from mgc.datasets.protocols import name_of
from mgc.errors import ConfigError, FeaturesError
from mgc.evaluation.leakage import check_heard, heard, says
from mgc.evaluation.report import EpochRow, ReportContent, render_report
from mgc.evaluation.scores import Scores, score
from mgc.experiment import Experiment
from mgc.labeling.decide import track_probabilities
from mgc.models.blocks import parameter_count
from pipelines.job import OVERRIDES, URI, Summary, describe, main, overrides, say
from pipelines.train import open_bundle


def model_facts(bundle: Bundle) -> dict[str, str]:
    """What a report says about a bundle."""
    metrics = bundle.metrics
    made = metrics.get("made_with", {})
    return {
        "bundle": bundle.id,
        "recipe": bundle.experiment.recipe,
        "features": f"{bundle.features_id} ({bundle.experiment.front_end.kind})",
        "parameters": f"{parameter_count(bundle.model):,}",
        "genres": ", ".join(bundle.taxonomy.names),
        "trained on": json.dumps(metrics.get("data", {}).get("clips", {})).strip("{}").replace('"', ""),
        "epochs": str(len(metrics.get("history", []))),
        "seed": str(bundle.experiment.training.seed),
        "protocol": name_of(bundle.experiment.protocol),
        "made with": ", ".join(f"{name} {value}" for name, value in made.items()),
    }


def history_rows(bundle: Bundle) -> list[EpochRow]:
    """The training history of a bundle, for its report."""
    return [EpochRow(**row) for row in bundle.metrics.get("history", [])]


def bundle_scores(bundle: Bundle) -> tuple[Scores | None, str, str]:
    """The scores that a bundle carries, with the name and the description of the split.

    None where it was never scored.
    """
    found: dict[str, Any] | None = bundle.metrics.get("test")
    if not found:
        return None, "test", ""
    return Scores.from_json(found["scores"]), found["split"], found["description"]


def what_was_scored(bundle: Bundle) -> dict[str, Any]:
    """What `ReportContent` says of the scores that a bundle carries: their unit, and what leaked."""
    found = bundle.metrics.get("test") or {}
    records = (found, bundle.metrics.get("data", {}))
    leaks = [record.get("leakage", {}).get("says") for record in records]
    return {"unit": found.get("unit", "tracks"), "leaks": [leak for leak in leaks if leak]}


def evaluated(bundle: Bundle, fields: dict[str, str]) -> Experiment:
    """The experiment of a bundle under another protocol.

    Raises:
        ConfigError: a field is none of the protocol's.
    """
    for name in fields:
        if not name.startswith("protocol."):
            raise ConfigError(f"option {name}: a trained model is scored as it is; only --protocol fields can be set.")
    return bundle.experiment.override(fields)


def each_clip(clips: pa.Table) -> pa.Table:
    """The same with every clip as a track of its own."""
    numbers = pa.array([str(number) for number in range(clips.num_rows)])
    return clips.set_column(clips.schema.get_field_index("track_id"), "track_id", numbers)


def track_scores(clips: pa.Table, bundle: Bundle) -> Scores:
    """Scores over tracks: the logits of a track's clips are averaged.

    Args:
        clips: `track_id`, `genre_top`, `logits`, one row a clip.
        bundle: whose taxonomy it is.
    """
    order = clips.take(pc.sort_indices(clips["track_id"]))
    tracks = np.array(order["track_id"].to_pylist())
    logits_NG = np.array(order["logits"].to_pylist(), dtype=np.float32)
    names, starts = np.unique(tracks, return_index=True)
    probabilities_KG = np.stack([track_probabilities(part) for part in np.split(logits_NG, starts[1:])])
    genres = order["genre_top"].take(pa.array(starts)).to_pylist()
    true = np.array([bundle.taxonomy.index(genre) for genre in genres])
    assert len(names) == len(true)
    return score(true, probabilities_KG, bundle.taxonomy.names)


def build(
    bundle_uri: str,
    features: str,
    split: str = "test",
    out: str | None = None,
    profile: Profile | None = None,
    limit: int | None = None,
    dry_run: bool = False,
    fields: dict[str, str] | None = None,
) -> Summary:
    """Score and write the report; connects to Ray when a profile is not given."""
    where = storage.redact(features)
    bundle = open_bundle(bundle_uri)
    dataset, facts = read_features(features)
    bundle.check_features(facts["features_id"], where)
    experiment = evaluated(bundle, fields or {})
    protocol = experiment.protocol
    roster = read_roster(dataset, protocol).limited(limit, (split,))
    size = roster.size(split)
    if not size.tracks:
        raise FeaturesError(
            f"{where}: no labelled clips in the split {split!r} (protocol {name_of(protocol)}); name "
            "another --split, or divide otherwise (--protocol.kind artist, --protocol.test_share 0.3)."
        )
    bundle.check_taxonomy(list(roster.class_counts(split)), where)
    leakage: dict[str, Any] = {"asked_for": protocol.leak, "checked": bundle.trained_on is not None}
    found = None if bundle.trained_on is None else heard(roster, split, bundle.trained_on)
    if found is not None:
        leakage |= {**found.to_json(), "says": says(found, split, protocol.unit)}
    target = out or bundle_uri
    if target == "default":
        raise FeaturesError("the default bundle is part of the program; give --out for its report.")
    counts: dict[str, Any] = {"tracks": size.tracks}
    if protocol.unit == "clips":
        counts["clips"] = size.clips
    if dry_run:
        describe(
            {
                "bundle": bundle.id,
                "split": split,
                "protocol": name_of(protocol),
                **counts,
                "leakage": leakage,
                "would write": storage.redact(storage.join(target, "report.html")),
            }
        )
    if found is not None:
        check_heard(found, protocol.leak, split, where)
    if dry_run:
        return Summary("dry_run", counts)
    shape = tuple(int(side) for side in facts["shape"])

    def work(at: Profile) -> pa.Table:
        only = None if limit is None else roster.only(split)
        return clip_logits(feed(dataset, split, at, None, experiment, only), bundle, shape, at)

    if profile is None:
        with connect() as at:
            clips = work(at)
    else:
        clips = work(profile)
    unit = protocol.unit
    scores = track_scores(each_clip(clips) if unit == "clips" else clips, bundle)
    if scores.tracks != counts[unit]:
        raise FeaturesError(f"{where}: {scores.tracks} of {counts[unit]} {unit} were scored; run it again.")
    how = "clips of a track averaged" if unit == "tracks" else f"of {size.tracks} tracks, each clip by itself"
    description = f"{scores.tracks} {unit} of {where}, {how}; protocol {name_of(protocol)}"
    notices = list(dict.fromkeys([*bundle.metrics.get("notices", []), *schema.notices_of(dataset.schema)]))
    if bundle.trained_on is None:
        notices.append("Leakage could not be checked: this bundle does not say which tracks it was trained on.")
    bundle.metrics["test"] = {
        "split": split,
        "unit": unit,
        "description": description,
        "leakage": leakage,
        "scores": scores.to_json(),
    }
    page = render_report(
        ReportContent(
            title=f"{bundle.experiment.recipe}: score on {split}",
            notices=notices,
            model=model_facts(bundle),
            scores=scores,
            split_name=split,
            split_description=description,
            history=history_rows(bundle),
            **what_was_scored(bundle),
        )
    )
    storage.write_bytes(storage.join(target, "metrics.json"), (json.dumps(bundle.metrics, indent=2) + "\n").encode())
    storage.write_bytes(storage.join(target, "report.html"), page.encode())
    say(
        f"{split}: accuracy {scores.accuracy:.3f} ({scores.accuracy_low:.3f} to {scores.accuracy_high:.3f}, 95 %), "
        f"macro-F1 {scores.macro_f1:.3f}, {scores.tracks} {unit}; chance {scores.chance:.3f}, "
        f"always {scores.majority_genre}: {scores.majority_accuracy:.3f}"
    )
    if leakage.get("says"):
        say(leakage["says"])
    counts |= {"accuracy": round(scores.accuracy, 4), "macro_f1": round(scores.macro_f1, 4)}
    return Summary("done", counts, {"report": storage.redact(storage.join(target, "report.html"))})


@click.command("evaluate", context_settings=OVERRIDES)
@click.option(
    "--bundle", type=URI, required=True, help="Folder of the bundle; its metrics.json and report.html are written anew."
)
@click.option("--features", type=URI, required=True, help="Folder that `mgc prepare` wrote.")
@click.option("--split", default="test", show_default=True)
@click.option("--out", type=URI, help="Write metrics.json and report.html here instead.")
@click.option("--limit", type=click.IntRange(1), help="Only N tracks, spread over the split.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
def command(
    bundle: str, features: str, split: str, out: str | None, limit: int | None, dry_run: bool, fields: tuple[str, ...]
) -> Summary:
    """Score a bundle on a split of prepared features, and write an HTML report.

    The rows are divided by the bundle's own protocol; another is set by its fields, for example --protocol.kind given.
    """
    return build(bundle, features, split, out, None, limit, dry_run, overrides(fields))


if __name__ == "__main__":
    main(command)
