"""Import published thumbnails of FMA-small as features to train on."""

from __future__ import annotations

from collections import Counter

import pyarrow.compute as pc
import pyarrow.dataset as pads

from cluster.session.progress import show_progress
from cluster.storage import files
from cluster.tables.features import FeaturesWriter
from cluster.tables.parquet import open_parquet
from mgc import schema
from mgc.configuration import to_json
from mgc.datasets import fma_mels, long_tail
from mgc.datasets.splits import TRAIN
from mgc.errors import FeaturesError
from mgc.features.front_end import describe_features
from mgc.units import format_count
from pipelines.command.job import Summary, describe, say
from pipelines.training.requests import ImportRequest

_BATCH_ROWS = 1024


def import_mels(request: ImportRequest) -> Summary:
    """Write the features. With a ratio, thin the training tracks to a long tail and keep all others.

    Raises:
        FeaturesError: there are features at `out`, or the file does not hold mels.
    """
    dataset = open_parquet(request.source, "Give the Parquet file of mels.", FeaturesError)
    total = dataset.count_rows()
    target = request.out / "features"
    if files.exists(target):
        raise FeaturesError(f"{request.out}: there are features here already; choose another --out, or remove them.")
    config = fma_mels.FRONT_END
    if request.dry_run:
        describe({"rows": total, "front_end": to_json(config), "would write": str(target)})
        return Summary("dry_run", {"rows": total})
    notices, keep = [fma_mels.NOTICE], None
    if request.ratio is not None:
        tracks, notice = _thin_tracks(dataset, request.ratio, str(request.source))
        notices.append(notice)
        keep = (pc.field("split") != TRAIN) | pc.field("track_id").isin(list(tracks))
    writer = FeaturesWriter(request.out, describe_features(config), notices)
    splits = _write_tracks(request, dataset, keep, writer)
    written = splits.total()
    why = "no split" if request.ratio is None else "no split, or thinned out"
    say(f"{written:,} of {format_count(total, 'track')} -> {request.out} (the rest: {why})")
    counts = {"rows": total, "tracks": written, "left_out": total - written, **splits}
    return Summary("done", counts, {"features": str(request.out)})


def _thin_tracks(dataset: pads.Dataset, ratio: float, where: str) -> tuple[set[str], str]:
    """Return the training tracks of a long-tailed subset of the file, and the notice that goes with them."""
    genres: dict[str, str] = {}
    for table in fma_mels.features(dataset.to_batches(batch_size=_BATCH_ROWS), where):
        rows = table.filter((pc.field("split") == TRAIN) & pc.field("genre_top").is_valid())
        genres.update(zip(rows["track_id"].to_pylist(), rows["genre_top"].to_pylist(), strict=True))
    kept = long_tail.thin(genres, ratio)
    return kept, long_tail.notice(ratio, len(kept), len(genres))


def _write_tracks(
    request: ImportRequest, dataset: pads.Dataset, keep: pc.Expression | None, writer: FeaturesWriter
) -> Counter[str]:
    """Write the tracks for which `keep` holds, and count them by split."""
    splits: Counter[str] = Counter()
    with show_progress("importing", "tracks", request.limit or dataset.count_rows()) as draw:
        for table in fma_mels.features(dataset.to_batches(batch_size=_BATCH_ROWS), str(request.source)):
            rows = table if keep is None else table.filter(keep)
            rows = rows if request.limit is None else rows.slice(0, request.limit - splits.total())
            if not rows.num_rows:
                continue
            writer.write(rows, schema.REJECTS.empty_table())
            found = pc.value_counts(rows["split"])
            splits.update({pair["values"]: pair["counts"] for pair in found.to_pylist()})
            draw({"tracks": splits.total()}, {})
    return splits
