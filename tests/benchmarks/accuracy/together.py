"""Bundles on the same pictures, each by itself and all together: the mean of their logits.

    python -m tests.benchmarks.accuracy.together --features outputs/fma --split validation BUNDLE BUNDLE …

`outputs/fma` is what `mgc import-mels` wrote. A bundle of several networks counts once, so this differs from the
bundle that `mgc ensemble` makes.
"""

from __future__ import annotations

import click
import numpy as np
import torch

from cluster.storage.uri import Uri
from cluster.tables.features import read_features
from mgc.bundle import load_bundle
from mgc.datasets.splits import TEST, VALIDATION
from mgc.evaluation.comparison import Difference, compare
from mgc.evaluation.intervals import Interval, ResamplingGroups
from mgc.evaluation.scores import score
from mgc.features.clips import read_clips
from tests.benchmarks.result import say


@click.command()
@click.option("--features", required=True)
@click.option("--split", type=click.Choice([VALIDATION, TEST]), default=VALIDATION, show_default=True)
@click.argument("bundles", nargs=-1, required=True)
def main(features: str, split: str, bundles: tuple[str, ...]) -> None:
    """Print accuracy and macro-F1 with intervals, and the difference of all together from the first."""
    torch.set_num_threads(1)
    dataset, facts = read_features(Uri.parse(features))
    rows = dataset.to_table(columns=["artist_id", "genre_top", "split", "features"])
    rows = rows.take(np.flatnonzero(np.array(rows["split"].to_pylist()) == split))
    genres = sorted(rows["genre_top"].unique().to_pylist())
    truth_N = np.array([genres.index(name) for name in rows["genre_top"].to_pylist()])
    groups = ResamplingGroups.of(rows["artist_id"].to_pylist(), "artists")
    clips_NFT = read_clips(rows["features"], facts.shape, facts.dtype)
    found = []
    for name in bundles:
        bundle = load_bundle(name)
        bundle.check_features(facts.features_id, features)
        bundle.check_taxonomy(genres, features)
        found.append(bundle.predictor().logits(clips_NFT))
    together_NG = np.mean(found, axis=0)
    for name, logits_NG in [*zip(bundles, found, strict=True), ("together", together_NG)]:
        seen = score(truth_N, logits_NG, genres, groups)
        say(
            f"{name}: accuracy {seen.accuracy:.3f}{_ends(seen.accuracy_interval)}, "
            f"macro-F1 {seen.macro_f1:.3f}{_ends(seen.macro_f1_interval)} ({split}, {seen.tracks} tracks)"
        )
    if len(bundles) > 1:
        between = compare(truth_N, found[0].argmax(1), together_NG.argmax(1), groups)
        say(f"together, less {bundles[0]}: {_described(between.accuracy)} accuracy, {_described(between.macro_f1)} F1")


def _described(found: Difference) -> str:
    return f"{found.difference:+.3f}{_ends(found.interval)}"


def _ends(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval.low:.3f} to {interval.high:.3f})"


if __name__ == "__main__":
    main()
