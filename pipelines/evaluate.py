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
from cluster.tables import class_counts, read_features, some_tracks, tracks_of
from cluster.trainer import feed
from mgc import schema
from mgc.bundle import Bundle
from mgc.errors import FeaturesError
from mgc.evaluation.report import EpochRow, ReportContent, render_report
from mgc.evaluation.scores import Scores, score
from mgc.labeling.decide import track_probabilities
from mgc.models.blocks import parameter_count
from pipelines.job import URI, Summary, describe, main, say
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
) -> Summary:
    """Score and write the report; connects to Ray when a profile is not given."""
    where = storage.redact(features)
    bundle = open_bundle(bundle_uri)
    dataset, facts = read_features(features)
    bundle.check_features(facts["features_id"], where)
    tracks = tracks_of(dataset, split)
    if not tracks:
        raise FeaturesError(
            f"{where}: no labelled clips in the split {split!r}; `mgc catalog --split-by` makes splits."
        )
    bundle.check_taxonomy(list(class_counts(dataset, split)), where)
    only = None if limit is None else some_tracks(tracks, limit)
    target = out or bundle_uri
    if target == "default":
        raise FeaturesError("the default bundle is part of the program; give --out for its report.")
    counts: dict[str, Any] = {"tracks": min(len(tracks), limit or len(tracks))}
    if dry_run:
        describe(
            {
                "bundle": bundle.id,
                "split": split,
                **counts,
                "would write": storage.redact(storage.join(target, "report.html")),
            }
        )
        return Summary("dry_run", counts)
    shape = tuple(int(side) for side in facts["shape"])

    def work(at: Profile) -> pa.Table:
        return clip_logits(feed(dataset, split, at, None, bundle.experiment, only), bundle, shape, at)

    if profile is None:
        with connect() as at:
            clips = work(at)
    else:
        clips = work(profile)
    scores = track_scores(clips, bundle)
    if scores.tracks != counts["tracks"]:
        raise FeaturesError(f"{where}: {scores.tracks} of {counts['tracks']} tracks were scored; run it again.")
    description = f"{scores.tracks} tracks of {where}, clips of a track averaged"
    notices = list(dict.fromkeys([*bundle.metrics.get("notices", []), *schema.notices_of(dataset.schema)]))
    bundle.metrics["test"] = {"split": split, "description": description, "scores": scores.to_json()}
    page = render_report(
        ReportContent(
            title=f"{bundle.experiment.recipe}: score on {split}",
            notices=notices,
            model=model_facts(bundle),
            scores=scores,
            split_name=split,
            split_description=description,
            history=history_rows(bundle),
        )
    )
    storage.write_bytes(storage.join(target, "metrics.json"), (json.dumps(bundle.metrics, indent=2) + "\n").encode())
    storage.write_bytes(storage.join(target, "report.html"), page.encode())
    say(
        f"{split}: accuracy {scores.accuracy:.3f} ({scores.accuracy_low:.3f} to {scores.accuracy_high:.3f}, 95 %), "
        f"macro-F1 {scores.macro_f1:.3f}, {scores.tracks} tracks; chance {scores.chance:.3f}, "
        f"always {scores.majority_genre}: {scores.majority_accuracy:.3f}"
    )
    counts |= {"accuracy": round(scores.accuracy, 4), "macro_f1": round(scores.macro_f1, 4)}
    return Summary("done", counts, {"report": storage.redact(storage.join(target, "report.html"))})


@click.command("evaluate")
@click.option(
    "--bundle", type=URI, required=True, help="Folder of the bundle; its metrics.json and report.html are written anew."
)
@click.option("--features", type=URI, required=True, help="Folder that `mgc prepare` wrote.")
@click.option("--split", default="test", show_default=True)
@click.option("--out", type=URI, help="Write metrics.json and report.html here instead.")
@click.option("--limit", type=click.IntRange(1), help="Only N tracks, spread over the split.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
def command(bundle: str, features: str, split: str, out: str | None, limit: int | None, dry_run: bool) -> Summary:
    """Score a bundle on a split of prepared features, track by track, and write an HTML report."""
    return build(bundle, features, split, out, None, limit, dry_run)


if __name__ == "__main__":
    main(command)
