"""`mgc import-mels FILE --out FEATURES`.

Thumbnails that others have computed from FMA-small, as features to train on.
"""

from __future__ import annotations

from collections import Counter

import click
import pyarrow.compute as pc

from cluster import storage
from cluster.progress import shown
from cluster.tables import FeaturesWriter, open_parquet
from mgc import schema
from mgc.configuration import to_json
from mgc.datasets import fma_mels
from mgc.errors import FeaturesError
from mgc.features.front_end import build_front_end, features_id
from pipelines.job import URI, Summary, describe, main, say


def build(source: str, out: str, limit: int | None = None, dry_run: bool = False) -> Summary:
    """Write the features."""
    dataset = open_parquet(source, "Give the Parquet file of mels.", FeaturesError)
    total = dataset.count_rows()
    target = storage.join(out, "features")
    if storage.exists(target):
        raise FeaturesError(
            f"{storage.redact(out)}: there are features here already; give another --out, or remove it."
        )
    config = fma_mels.FRONT_END
    if dry_run:
        describe({"rows": total, "front_end": to_json(config), "would write": storage.redact(target)})
        return Summary("dry_run", {"rows": total})
    writer = FeaturesWriter(
        out, to_json(config), features_id(config), build_front_end(config).shape, (fma_mels.NOTICE,)
    )
    splits: Counter[str] = Counter()
    written = 0
    with shown("importing", "tracks", limit or total) as draw:
        for table in fma_mels.features(dataset.to_batches(batch_size=1024), storage.redact(source)):
            rows = table if limit is None else table.slice(0, limit - written)
            if not rows.num_rows:
                continue
            writer.write(rows, schema.REJECTS.empty_table())
            written += rows.num_rows
            counted = pc.value_counts(rows["split"])
            splits.update({pair["values"]: pair["counts"] for pair in counted.to_pylist()})
            draw({"tracks": written}, {})
    counts = {"rows": total, "tracks": written, "left_out": total - written, **splits}
    say(f"{written} of {total} tracks -> {storage.redact(out)} (the rest has no split)")
    return Summary("done", counts, {"features": storage.redact(out)})


@click.command("import-mels")
@click.argument("source", metavar="FILE", type=URI)
@click.option("--out", type=URI, required=True, help="Folder of the features.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N tracks.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
def command(source: str, out: str, limit: int | None, dry_run: bool) -> Summary:
    """Turn a Parquet file of 128 x 128 FMA-small mels into features for `mgc train --recipe house-thumbnail`.

    FILE has track_id, genre_top, artist_id, split and mel_u8. Of the training artists 12 % become the validation set.
    """
    return build(source, out, limit, dry_run)


if __name__ == "__main__":
    main(command)
