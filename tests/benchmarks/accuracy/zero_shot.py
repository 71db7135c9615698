"""How often a published model is right without any training, in the words of a shipped taxonomy.

    python -m tests.benchmarks.accuracy.zero_shot --clips FOLDER --bundle mn04 --taxonomy gtzan

Each clip is labelled as `mgc label` would. A clip that gets an error in place of a genre counts as wrong. A taxonomy
that lacks a genre of the clips can never be right there.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import click
import torch

from mgc.bundle import load_bundle
from mgc.errors import AudioError
from mgc.labeling.tag_maps import shipped_map
from tests.benchmarks.accuracy.clips import find_clips
from tests.benchmarks.result import say


@click.command()
@click.option("--clips", "folder", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--bundle", default="default", show_default=True)
@click.option("--taxonomy", help="Name of a map that comes with mgc; none for the bundle's own words.")
def main(folder: Path, bundle: str, taxonomy: str | None) -> None:
    """Print shares of right answers, and a table of true genres against answers."""
    torch.set_num_threads(1)
    found, loaded = find_clips(folder), load_bundle(bundle)
    if taxonomy is not None:
        loaded = loaded.answering(*shipped_map(taxonomy, loaded.vocabulary))
    # Words may differ in case and hyphens only: Hip-Hop, hiphop.
    plain = {_plain(genre): genre for genre in found.genres}
    answers: list[list[str]] = []
    started = time.process_time()
    for path in found.paths:
        try:
            ranked = loaded.label(path, 3).top_k
            answers.append([plain.get(_plain(genre), genre) for genre, _ in ranked])
        except AudioError as error:
            answers.append([str(error.kind)])
    seconds = (time.process_time() - started) / len(found.paths)
    truth = [found.genres[genre] for genre in found.genre_N]
    known = {plain.get(_plain(genre), genre) for genre in loaded.taxonomy.names}
    say(f"bundle {loaded.id} ({bundle}), {len(truth)} clips, {seconds:.2f} s of CPU a clip")
    missing = [genre for genre in found.genres if genre not in known]
    if missing:
        say(f"no word for: {', '.join(missing)}")
    for top in (1, 3):
        right = [genre in ranked[:top] for genre, ranked in zip(truth, answers, strict=True)]
        heard = [hit for hit, genre in zip(right, truth, strict=True) if genre in known]
        say(
            f"top {top}: {sum(right)} of {len(right)} right ({sum(right) / len(right):.3f}); of the genres that have a "
            f"word {sum(heard)} of {len(heard)} ({sum(heard) / max(1, len(heard)):.3f})"
        )
    for genre in found.genres:
        counted = Counter(ranked[0] for ranked, true in zip(answers, truth, strict=True) if true == genre)
        say(f"{genre:>10}: {', '.join(f'{answer} {count}' for answer, count in counted.most_common())}")


def _plain(genre: str) -> str:
    return "".join(letter for letter in genre.casefold() if letter.isalnum())


if __name__ == "__main__":
    main()
