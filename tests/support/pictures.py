"""`python -m tests.support.pictures FOLDER` (or `make pictures`) takes the pictures that the docs show.

They are pages as the jobs write them: the report of a night, its figures invented and marked as such, and the
evaluation report of the model shipped with mgc, made from what its bundle says of its test.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mgc.evaluation.night import Confidence, Flip, Flips, LabelsRun, QuarantineRow, Throughput, TrackCounts
from mgc.evaluation.report import ReportContent, render_report
from tests.support.browser import take_picture

SIZES = {"night": (1120, 1184), "evaluation": (1120, 1056)}
"""Width and height of each picture in pixels."""

LARGEST_BYTES = 200_000

_COLOURS = 256


def night_page() -> str:
    """Return the report of an ordinary night on a catalog of 106,000 tracks, with one alarm."""
    before = {
        "Rock": 30_120, "Electronic": 21_480, "Experimental": 17_310, "Pop": 10_240, "Folk": 8_930,
        "Hip-Hop": 7_450, "Instrumental": 6_020, "International": 2_860,
    }  # fmt: skip
    labelled = {
        "Rock": 310, "Electronic": 508, "Experimental": 160, "Pop": 105, "Folk": 88, "Hip-Hop": 71, "Instrumental": 58,
        "International": 29,
    }  # fmt: skip
    bell = tuple(round(9000 * float(np.exp(-((place - 10) ** 2) / 20))) for place in range(20))
    quarantined = [
        QuarantineRow("Ann Other/Live/03.mp3", "s3://music/Ann Other/Live/03.mp3", "truncated", "ends after 0.3 s"),
        QuarantineRow("scans/sleeve.mp3", "s3://music/scans/sleeve.mp3", "not_audio", "looks like a JPEG picture"),
    ]
    run = LabelsRun(
        run_id="5f1c08a7b2d4",
        started_at="2026-03-01T02:00:00+00:00",
        finished_at="2026-03-01T02:02:24+00:00",
        seconds=144.0,
        catalog_uri="s3://music/catalog.parquet",
        labels_uri="s3://labels/nightly",
        table_version=58,
        counts=TrackCounts(
            planned=1_421, labeled=1_329, quarantined=92, up_to_date=103_206, removed=14, new=1_302, changed=104,
            retried=15, waiting=21, corrected=3,
        ),
        genre_counts={genre: before[genre] + labelled[genre] for genre in before},
        training_genre_share=dict.fromkeys(before, 0.125),
        previous_version=57,
        previous_genre_counts=before,
        run_genre_counts=labelled,
        first_tries={"": 1_326, "truncated": 58, "not_audio": 22},
        quarantine_by_kind={"truncated": 311, "not_audio": 160, "timeout": 12},
        run_quarantine_by_kind={"truncated": 58, "not_audio": 22, "timeout": 12},
        quarantine=quarantined,
        quarantine_total=483,
        quarantine_examples={"truncated": quarantined[:1], "not_audio": quarantined[1:]},
        throughput=Throughput(1_421, 113.0, 31.0, 16, 0, 12 << 30, 4 << 30, 3.5e5, 1.2e5, 210.0, 1_090.0, 330.0),
        confidence=Confidence(bell, 0.57),
        run_confidence=Confidence(tuple(count // 70 for count in bell), 0.56),
        previous_confidence=Confidence(bell, 0.57),
        flips=Flips(104, 9, 101, 8, [("Rock", "Pop", 5)], [Flip("a/1.mp3", "Rock", "Pop", 0.51, 0.48)]),
    )  # fmt: skip
    return render_report(
        ReportContent(title="The night of 1 March", notices=["An example: the figures are invented."], labels_run=run)
    )


def evaluation_page() -> str:
    """Return the evaluation report of the model shipped with mgc."""
    from mgc.bundle import load_bundle
    from mgc.bundle_facts import describe_model, read_scores

    bundle = load_bundle("shipped")
    scores, split, description = read_scores(bundle)
    return render_report(
        ReportContent(
            title="The model shipped with mgc",
            model=describe_model(bundle),
            scores=scores,
            split_name=split,
            split_description=description,
        )
    )


PAGES = {"night": night_page, "evaluation": evaluation_page}


def take(name: str, out: Path) -> Path:
    """Write NAME.png into a folder, in 256 colours so that it stays small, and return it."""
    with tempfile.TemporaryDirectory() as folder:
        taken = take_picture(Path(folder), PAGES[name](), SIZES[name])
        picture = out / f"{name}.png"
        with Image.open(taken) as image:
            image.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)
    return picture


def main() -> None:
    """Take all pictures."""
    for name in PAGES:
        picture = take(name, Path(sys.argv[1]))
        print(f"{picture}: {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
