"""The label job's stages in Daft instead of Ray Data. Runs in an environment of its own, see `daft_environment`.

python -m tests.benchmarks.label.label_by_daft CATALOG OUT BUNDLE
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

import numpy as np

from tests.benchmarks.label.labelers import BATCH, CORES

COLUMNS: Final = ("track_id", "uri", "content_tag", "size_bytes")


def label(catalog: str, out: str, bundle_uri: str) -> None:
    """Catalog rows → fetch, decode, features → predict → Parquet, each stage in processes, one a core."""
    # Daft is no dependency of mgc: the type checker does not find it.
    import daft  # type: ignore[import-not-found]
    import pyarrow as pa
    from daft import DataType

    heard_type = DataType.struct(
        {"clips": DataType.binary(), "clip_count": DataType.int32(), "error_kind": DataType.string()}
    )

    @daft.cls(use_process=True, max_concurrency=CORES)
    class Listen:
        def __init__(self, bundle_uri: str) -> None:
            import torch

            from cluster.storage.fetch import Fetch
            from mgc.bundle import load_bundle
            from mgc.hearing.extract import Extract

            torch.set_num_threads(1)
            hearing = load_bundle(bundle_uri).hearing
            self.fetch = Fetch(plan=hearing.plan)
            self.extract = Extract(hearing)

        @daft.method.batch(return_dtype=heard_type, batch_size=BATCH)
        def __call__(self, track_id: Any, uri: Any, content_tag: Any, size_bytes: Any) -> pa.Array:
            columns = zip(COLUMNS, (track_id, uri, content_tag, size_bytes), strict=True)
            batch = {name: np.array(values.to_pylist(), dtype=object) for name, values in columns}
            heard = self.extract(self.fetch(batch))
            return pa.StructArray.from_arrays(
                [
                    pa.array(heard["clips"], pa.large_binary()),
                    pa.array(heard["clip_count"], pa.int32()),
                    pa.array(heard["error_kind"], pa.large_string()),
                ],
                names=["clips", "clip_count", "error_kind"],
            )

    @daft.cls(use_process=True, max_concurrency=CORES)
    class Label:
        def __init__(self, bundle_uri: str) -> None:
            import torch

            from mgc.bundle import load_bundle
            from mgc.graphs.export import export_graph
            from mgc.models.graph import Graph

            torch.set_num_threads(1)
            bundle = load_bundle(bundle_uri)
            self.predict = bundle.predictor(graph=Graph(export_graph(bundle)))

        @daft.method.batch(return_dtype=DataType.string(), batch_size=32)
        def __call__(self, heard: Any) -> pa.Array:
            rows = heard.to_pylist()
            clips = np.empty(len(rows), dtype=object)
            clips[:] = [row["clips"] for row in rows]
            batch = {"clips": clips, "clip_count": np.array([row["clip_count"] for row in rows], np.int32)}
            return pa.array(list(self.predict(batch)["genre_top"]), pa.large_string())

    listen, decide = Listen(bundle_uri), Label(bundle_uri)
    frame = daft.read_parquet(catalog).select(*COLUMNS)
    frame = frame.with_column("heard", listen(*(frame[name] for name in COLUMNS)))
    frame = frame.with_column("genre_top", decide(frame["heard"]))
    frame.select("track_id", "genre_top").write_parquet(out)


if __name__ == "__main__":
    # Before Daft is imported: no report of what is run goes out, and no bars on the terminal.
    os.environ |= {
        "DO_NOT_TRACK": "true",
        "DAFT_ANALYTICS_ENABLED": "0",
        "DAFT_PROGRESS_BAR": "0",
        "OMP_NUM_THREADS": "1",
    }
    label(*sys.argv[1:])
    print(json.dumps({}))
