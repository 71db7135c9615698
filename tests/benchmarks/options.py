"""Options that several benchmarks take."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

DATA: Final = click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="MGC_TEST_DATA",
    help="Folder with real recordings, as music/*.ogg [default: MGC_TEST_DATA]; without it, the synthetic corpus.",
)
