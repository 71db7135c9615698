"""`mgc`: every job as a word. The module of a job is imported only when its word is used, so `mgc --help` is quick."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Final

from pipelines.command.signals import Interrupts

if TYPE_CHECKING:
    import click

JOBS: Final = {
    "catalog": "Index the audio files of a folder or a bucket.",
    "prepare": "Compute the features of a catalog's tracks for training.",
    "train": "Train a recipe on prepared features and save a bundle.",
    "tune": "Search the fields of a recipe and save the best trial as a bundle.",
    "ensemble": "Combine several bundles into one.",
    "evaluate": "Score a bundle on a split and write an HTML report.",
    "compare": "Compare two bundles on the same tracks, with intervals.",
    "plan": "Print what `label` would do, and how long it would take.",
    "label": "Label the tracks that are new or changed, in one commit.",
    "embed": "Keep the embeddings of the tracks, for similarity and small models.",
    "learn": "Learn genres from the files' own tags, and label the untagged files.",
    "similar": "Find what sounds like a track, or recordings that are there twice.",
    "show": "Print a labels table.",
    "labels": "Look after a labels table: history, diff, rollback, vacuum, corrections.",
    "recipes": "List the recipes that can be trained.",
    "doctor": "Check what this machine or cluster has and what would not work.",
    "export": "Write the network of a bundle as an ONNX file for other programs.",
    "pull": "Fetch a public model that others trained, as a bundle.",
    "cluster": "Start a Ray cluster of several nodes on this machine.",
    "import-mels": "Turn a file of FMA-small mels into features.",
    "synthesize": "Make a synthetic corpus of MP3 files to try the other jobs on.",
    "demo": "Run every job in turn on a synthetic corpus.",
}
"""Words with what they do, in the order of their use."""


def find(word: str) -> click.Command:
    """Import a job and return its command."""
    command: click.Command = importlib.import_module(f"pipelines.{word.replace('-', '_')}").command
    return command


def main() -> None:
    """Run `mgc WORD …` and exit."""
    # Before the slow imports, so that Ctrl-C meanwhile ends the job as interrupted.
    Interrupts.of_process()
    word, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if word in ("--help", "-h"):
        print("Usage: mgc JOB [OPTIONS]\n\n  Genre labels for whole music catalogs.\n\nJobs:")
        for name, what in JOBS.items():
            print(f"  {name:<12} {what}")
        print("\n`mgc JOB --help` lists the options of a job. The same jobs run as `python -m pipelines.JOB`.")
        sys.exit(0)
    if word == "--version":
        import mgc

        print(f"mgc {mgc.__version__}")
        sys.exit(0)
    if word not in JOBS:
        print(f"mgc: there is no job {word!r}; there are {', '.join(JOBS)}.", file=sys.stderr)
        sys.exit(2)
    from pipelines.command.job import run_and_exit

    run_and_exit(find(word), arguments, f"mgc {word}")


if __name__ == "__main__":
    main()
