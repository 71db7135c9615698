"""`mgc import-mels FILE --out FEATURES`.

Thumbnails that others have computed from FMA-small, as features to train on.
"""

from __future__ import annotations

from collections import Counter

import click
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.session.progress import show_progress
from cluster.storage import files
from cluster.storage.failures import redact
from cluster.storage.uri import Uri, join
from cluster.tables.features import FeaturesWriter
from cluster.tables.parquet import open_parquet
from mgc import schema
from mgc.configuration import to_json
from mgc.datasets import fma_mels, long_tail
from mgc.datasets.splits import TRAIN
from mgc.errors import FeaturesError
from mgc.features.front_end import describe_features
from pipelines.command.job import URI, Summary, describe, main, say


def thinned(dataset: pads.Dataset, ratio: float, where: str) -> tuple[set[str], str]:
    """The training tracks of a long-tailed subset of the file, and the notice that goes with them."""
    genres: dict[str, str] = {}
    for table in fma_mels.features(dataset.to_batches(batch_size=1024), where):
        rows = table.filter((pc.field("split") == TRAIN) & pc.field("genre_top").is_valid())
        genres.update(zip(rows["track_id"].to_pylist(), rows["genre_top"].to_pylist(), strict=True))
    kept = long_tail.thin(genres, ratio)
    return kept, long_tail.notice(ratio, len(kept), len(genres))


def build(
    source: str, out: str, limit: int | None = None, dry_run: bool = False, ratio: float | None = None
) -> Summary:
    """Write the features; with a ratio, only a long-tailed subset of the training tracks, and all others."""
    dataset = open_parquet(source, "Give the Parquet file of mels.", FeaturesError)
    total = dataset.count_rows()
    target = join(out, "features")
    if files.exists(target):
        raise FeaturesError(f"{redact(out)}: there are features here already; give another --out, or remove it.")
    config = fma_mels.FRONT_END
    if dry_run:
        describe({"rows": total, "front_end": to_json(config), "would write": redact(target)})
        return Summary("dry_run", {"rows": total})
    where, notices, keep = redact(source), [fma_mels.NOTICE], None
    if ratio is not None:
        tracks, notice = thinned(dataset, ratio, where)
        notices.append(notice)
        keep = (pc.field("split") != TRAIN) | pc.field("track_id").isin(list(tracks))
    writer = FeaturesWriter(out, describe_features(config), notices)
    splits: Counter[str] = Counter()
    written = 0
    with show_progress("importing", "tracks", limit or total) as draw:
        for table in fma_mels.features(dataset.to_batches(batch_size=1024), where):
            rows = table if keep is None else table.filter(keep)
            rows = rows if limit is None else rows.slice(0, limit - written)
            if not rows.num_rows:
                continue
            writer.write(rows, schema.REJECTS.empty_table())
            written += rows.num_rows
            counted = pc.value_counts(rows["split"])
            splits.update({pair["values"]: pair["counts"] for pair in counted.to_pylist()})
            draw({"tracks": written}, {})
    counts = {"rows": total, "tracks": written, "left_out": total - written, **splits}
    why = "no split" if ratio is None else "no split, or thinned out"
    say(f"{written} of {total} tracks -> {redact(out)} (the rest: {why})")
    return Summary("done", counts, {"features": redact(out)})


@click.command("import-mels")
@click.argument("source", metavar="FILE", type=URI)
@click.option("--out", type=URI, required=True, help="Folder of the features.")
@click.option(
    "--long-tail",
    "ratio",
    type=click.FloatRange(1),
    metavar="RATIO",
    help="Thin the training split until the first genre has RATIO times the tracks of the last.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first N tracks.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
def command(source: Uri, out: Uri, ratio: float | None, limit: int | None, dry_run: bool) -> Summary:
    """Turn a Parquet file of 128 x 128 FMA-small mels into features for `mgc train --recipe house-thumbnail`.

    FILE has track_id, genre_top, artist_id, split and mel_u8. Of the training artists 12 % become the validation set.

    With --long-tail the training split becomes unbalanced: in order of their counts, then of their names, the genres
    keep exponentially fewer tracks. Validation and test stay as they are.
    """
    return build(source.text, out.text, limit, dry_run, ratio)


if __name__ == "__main__":
    main(command)
