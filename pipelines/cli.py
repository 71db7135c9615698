"""`mgc`: every job as a word. A job's module is imported only when its word is used, so that `mgc --help` is quick."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

import mgc
from pipelines.command.job import run

JOBS: Final = {
    "catalog": "Index the audio files of a folder or a bucket.",
    "prepare": "Compute the features of a catalog's tracks for training.",
    "train": "Train a recipe on prepared features and save a bundle.",
    "tune": "Search a recipe's fields and save the best as a bundle.",
    "ensemble": "Put several bundles together into one.",
    "evaluate": "Score a bundle on a split and write an HTML report.",
    "compare": "Two bundles on the same tracks: which is better, and how sure that is.",
    "plan": "What `label` would do, and what it would take.",
    "label": "Label the tracks that are new or changed, in one commit.",
    "show": "Print a labels table.",
    "labels": "History, differences, rollback, vacuum, export of a labels table.",
    "recipes": "List what can be trained.",
    "doctor": "What this machine or cluster has, and what would not work.",
    "cluster": "A Ray cluster of several nodes on this machine.",
    "import-mels": "Turn a file of FMA-small mels into features.",
    "synthesize": "A corpus of MP3 files made by rule, to try the other jobs on.",
    "demo": "The whole way on a synthetic corpus.",
}
"""Words and what they do, in the order in which they are used."""


def find(word: str) -> click.Command:
    """The command of a job."""
    command: click.Command = importlib.import_module(f"pipelines.{word.replace('-', '_')}").command
    return command


def main() -> None:
    """Run `mgc WORD …` and exit."""
    word, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if word in ("--help", "-h"):
        click.echo("Usage: mgc JOB [OPTIONS]\n\n  Genre labels for whole music catalogs.\n\nJobs:")
        for name, what in JOBS.items():
            click.echo(f"  {name:<12} {what}")
        click.echo("\n`mgc JOB --help` tells more. The same jobs run as `python -m pipelines.JOB`.")
        sys.exit(0)
    if word == "--version":
        click.echo(f"mgc {mgc.__version__}")
        sys.exit(0)
    if word not in JOBS:
        click.echo(f"mgc: there is no job {word!r}; there are {', '.join(JOBS)}.", err=True)
        sys.exit(2)
    sys.exit(run(find(word), arguments, f"mgc {word}"))


if __name__ == "__main__":
    main()
