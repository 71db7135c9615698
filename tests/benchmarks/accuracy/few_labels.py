"""How far a few labels a genre go: heads on a bundle's embeddings, and on plain statistics of the same clips.

    python -m tests.benchmarks.accuracy.few_labels --clips FOLDER --bundle mn04 --labels 1,3

Of the clips of each genre, k train and the others are scored, in all divisions that take the same places of every
genre. Heads are those of `mgc train --recipe probe`. With one label a genre there is nothing to cross-fit, so strength
and temperature are fixed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import librosa
import numpy as np
import torch
from numpy.typing import NDArray

from mgc.audio.decode import decode
from mgc.audio.excerpts import ListeningPlan
from mgc.audio.recording import record_file
from mgc.bundle import load_bundle
from mgc.evaluation.calibration import calibration
from mgc.labeling.decide import track_probabilities
from mgc.training.probe import CrossFit, cross_fit, train_head
from tests.benchmarks.accuracy.clips import Clips, find_clips
from tests.benchmarks.result import say

ONE_LABEL: Final = CrossFit(np.zeros((0, 0)), np.zeros(0, np.int64), np.zeros(0, bool), 0.01, 0.2)
"""What a head takes where nothing can be chosen."""

STATISTICS: Final = ("log-mel", "mfcc")


@click.command()
@click.option("--clips", "folder", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--bundle", "bundles", multiple=True, default=("default",), show_default=True)
@click.option("--labels", default="1,3,4", show_default=True, help="Labels of each genre, separated by commas.")
@click.option("--statistics", is_flag=True, help="Heads on statistics of log-mel and MFCC, too.")
def main(folder: Path, bundles: tuple[str, ...], labels: str, statistics: bool) -> None:
    """Print accuracy and calibration error of each set of features."""
    torch.set_num_threads(1)
    found = find_clips(folder)
    features = {name: _embed(found, name) for name in bundles}
    if statistics:
        features |= {name: _measure(found, name) for name in STATISTICS}
    if len(bundles) > 1:
        # Each with the same weight, whatever its scale and its width.
        scaled = [features[name] / features[name].std() / np.sqrt(features[name].shape[1]) for name in bundles]
        features[" + ".join(bundles)] = np.concatenate(scaled, axis=1)
    for name, embedding_ND in features.items():
        for count in map(int, labels.split(",")):
            right, error, heads = _score(embedding_ND.astype(np.float32), found, count)
            say(f"{name}, {count} a genre: accuracy {right:.3f}, calibration error {error:.3f} ({heads} divisions)")


def _score(embedding_ND: NDArray[np.float32], found: Clips, count: int) -> tuple[float, float, int]:
    """Return accuracy and expected calibration error over all divisions, and their number."""
    places_N = np.zeros(len(found.genre_N), np.int64)
    for genre in range(len(found.genres)):
        own = np.flatnonzero(found.genre_N == genre)
        places_N[own] = np.arange(len(own))
    shares, truth = [], []
    divisions = list(itertools.combinations(range(int(places_N.max()) + 1), count))
    for division in divisions:
        inside_N = np.isin(places_N, division)
        head = _train(embedding_ND[inside_N], found.genre_N[inside_N], len(found.genres))
        logits_NG = head(torch.from_numpy(embedding_ND[~inside_N])).numpy()
        shares += [track_probabilities(logits_G[None]) for logits_G in logits_NG]
        truth.append(found.genre_N[~inside_N])
    truth_N, shares_NG = np.concatenate(truth), np.stack(shares)
    fit = calibration(truth_N, shares_NG)
    return fit.accuracy, fit.expected_error, len(divisions)


def _train(embedding_ND: NDArray[np.float32], genre_N: NDArray[np.int64], genres: int) -> torch.nn.Module:
    several = len(genre_N) > genres
    chosen = cross_fit(embedding_ND, genre_N, np.arange(len(genre_N)), genres) if several else ONE_LABEL
    return train_head(embedding_ND, genre_N, genres, chosen)


def _embed(found: Clips, bundle: str) -> NDArray[np.float32]:
    loaded = load_bundle(bundle)
    return np.stack([loaded.embed(path) for path in found.paths])


def _measure(found: Clips, kind: str) -> NDArray[np.float32]:
    """Return means and deviations over time of log-mel bins or MFCC."""
    plan = ListeningPlan()
    rows: list[Sequence[float]] = []
    for path in found.paths:
        window = decode(record_file(path, plan), plan).windows[0]
        samples, rate_hz = window.samples, window.sample_rate_hz
        if kind == "mfcc":
            values_FX = librosa.feature.mfcc(y=samples, sr=rate_hz, n_mfcc=20)
        else:
            values_FX = librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate_hz))
        rows.append([*values_FX.mean(axis=1), *values_FX.std(axis=1)])
    return np.array(rows, np.float32)


if __name__ == "__main__":
    main()
