"""A probe on the embeddings of ten thousand tracks: cross-fitting, learning curve and head.

`python -m tests.benchmarks.training.probe_speed`: clouds of numbers in place of embeddings, as wide as those of mn04,
in genres that are rarer and rarer, three tracks an artist.
"""

from __future__ import annotations

import os
import time

import click
import numpy as np

from mgc.training.probe import cross_fit, learning_curve, train_head
from tests.benchmarks.result import Result, hand_over

TRACKS, WIDTH, GENRES, TRACKS_OF_ARTIST = 10_000, 384, 16, 3


def make_clouds(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, genres and artists."""
    random = np.random.default_rng(seed)
    artist_N = np.arange(TRACKS) // TRACKS_OF_ARTIST
    genre_A = np.minimum(random.geometric(0.2, artist_N.max() + 1) - 1, GENRES - 1)
    genre_N = genre_A[artist_N]
    centres_GD, artists_AD = random.normal(size=(GENRES, WIDTH)), random.normal(size=(len(genre_A), WIDTH))
    noise_ND = random.normal(size=(TRACKS, WIDTH))
    embedding_ND = 0.15 * centres_GD[genre_N] + 0.5 * artists_AD[artist_N] + noise_ND
    return embedding_ND.astype(np.float32), genre_N, artist_N


def measure(rounds: int) -> list[Result]:
    embedding_ND, genre_N, artist_N = make_clouds()
    seconds, cpu = [], []
    right = 0.0
    for _ in range(rounds):
        started, used = time.perf_counter(), time.process_time()
        chosen = cross_fit(embedding_ND, genre_N, artist_N, GENRES)
        learning_curve(embedding_ND, genre_N, chosen, GENRES)
        train_head(embedding_ND, genre_N, GENRES, chosen)
        seconds.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
        right = float((chosen.logits_NG.argmax(axis=1) == genre_N).mean())
    detail = f"{min(cpu):.1f} s of CPU on {os.cpu_count()} cores; {right:.2f} of the tracks right"
    return [Result("probe_10k_seconds", min(seconds), "seconds", detail)]


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Times; the least counts.")
def main(rounds: int) -> None:
    """Measure, and hand the value over."""
    hand_over(measure(rounds))


if __name__ == "__main__":
    main()
