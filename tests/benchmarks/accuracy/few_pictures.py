"""How far a few labels a genre go on FMA-small's mel pictures: heads on a frozen public network, and on statistics.

    python -m tests.benchmarks.accuracy.few_pictures --features outputs/fma --init mn04 --labels 1,3,5,10,20

`outputs/fma` is what `mgc import-mels` wrote. k tracks of each genre, each of another artist, come from the training
side; the tracks of the validation side are scored. Nothing of the test side is scored.
"""

from __future__ import annotations

from typing import Final

import click
import numpy as np
import torch
from numpy.typing import NDArray

from cluster.storage.uri import Uri
from cluster.tables.features import read_features
from mgc.bundle_start import load_start
from mgc.datasets.splits import TRAIN, VALIDATION
from mgc.evaluation.calibration import calibration
from mgc.features.clips import read_clips
from mgc.features.normalization import Normalization
from mgc.labeling.decide import track_probabilities
from mgc.models.architecture import AnyModelConfig, build_model
from mgc.models.mobilenet import MobileNetConfig
from mgc.models.musicnn import MusicnnConfig
from mgc.training.probe import cross_fit, train_head
from tests.benchmarks.accuracy.few_labels import ONE_LABEL
from tests.benchmarks.result import say

DRAWS: Final = 10
POOL: Final = 60
"""Training tracks of each genre, of as many artists, from which labels are drawn."""

NETWORKS: Final[dict[str, AnyModelConfig]] = {
    "mn04": MobileNetConfig(input="thumbnail"),
    "musicnn": MusicnnConfig(input="thumbnail"),
}


@click.command()
@click.option("--features", required=True)
@click.option("--init", default="mn04", show_default=True, type=click.Choice(sorted(NETWORKS)), help="Frozen network.")
@click.option("--labels", default="1,3,5,10,20", show_default=True)
def main(features: str, init: str, labels: str) -> None:
    """Print accuracy and calibration error of each set of features."""
    torch.set_num_threads(1)
    dataset, facts = read_features(Uri.parse(features))
    rows = dataset.to_table(columns=["track_id", "artist_id", "genre_top", "split"])
    genres = sorted(rows["genre_top"].unique().to_pylist())
    pool = _pool(rows.to_pylist(), genres)
    held = [number for number, split in enumerate(rows["split"].to_pylist()) if split == VALIDATION]
    wanted = [number for each in pool for number in each] + held
    clips = dataset.to_table(columns=["features"])["features"].take(wanted)
    clips_NFT = read_clips(clips, facts.shape, facts.dtype)
    truth = np.array([genres.index(name) for name in rows["genre_top"].take(wanted).to_pylist()])
    known = len(wanted) - len(held)
    normalization = Normalization.measure(clips_NFT[:known])
    for name, numbers_ND in (
        (f"{init}, frozen", _embed(clips_NFT, facts.shape, normalization, init)),
        ("mel means and deviations", np.concatenate([clips_NFT.mean(axis=2), clips_NFT.std(axis=2)], axis=1)),
    ):
        embedding_ND = numbers_ND.astype(np.float32)
        for count in map(int, labels.split(",")):
            right, error = _score(embedding_ND, truth, known, len(genres), count)
            say(f"{name}, {count} a genre: accuracy {right:.3f}, calibration error {error:.3f} ({len(held)} tracks)")


def _pool(rows: list[dict[str, str]], genres: list[str]) -> list[list[int]]:
    """Return places of training tracks of each genre, one for each artist."""
    random = np.random.default_rng(0)
    pool = []
    for genre in genres:
        own = [n for n, row in enumerate(rows) if row["split"] == TRAIN and row["genre_top"] == genre]
        by_artist = {rows[n]["artist_id"]: n for n in random.permutation(own).tolist()}
        pool.append(list(by_artist.values())[:POOL])
    return pool


@torch.inference_mode()
def _embed(
    clips_NFT: NDArray[np.uint8], shape: tuple[int, ...], normalization: Normalization, init: str
) -> NDArray[np.float32]:
    model = build_model(NETWORKS[init], shape, 2)
    model.start_from(load_start(init).weights)
    model.eval()
    parts = torch.from_numpy(clips_NFT).split(8)
    return np.concatenate([model.embed(normalization.apply(part)).numpy() for part in parts])


def _score(
    embedding_ND: NDArray[np.float32], truth_N: NDArray[np.int64], known: int, genres: int, count: int
) -> tuple[float, float]:
    """Return accuracy and expected calibration error over the draws."""
    shares, truth = [], []
    for draw in range(DRAWS):
        random = np.random.default_rng(draw)
        chosen = np.concatenate(
            [random.permutation(np.flatnonzero(truth_N[:known] == genre))[:count] for genre in range(genres)]
        )
        fit = cross_fit(embedding_ND[chosen], truth_N[chosen], chosen, genres) if count > 1 else ONE_LABEL
        head = train_head(embedding_ND[chosen], truth_N[chosen], genres, fit)
        logits_NG = head(torch.from_numpy(embedding_ND[known:])).numpy()
        shares += [track_probabilities(logits_G[None]) for logits_G in logits_NG]
        truth.append(truth_N[known:])
    found = calibration(np.concatenate(truth), np.stack(shares))
    return found.accuracy, found.expected_error


if __name__ == "__main__":
    main()
