"""Ways to label a catalog other than the label job, each a program of its own that is timed from start to end.

    python -m tests.benchmarks.label.labelers WAY CATALOG OUT BUNDLE

- `bare`: the job's own stages (Fetch, Extract, Predict, rows) in a loop, one process a core, and nothing else;
- `isolated`: the same with decoders in cells of their own, as the job has them;
- `librosa_pool`: what one would write without mgc: librosa in a pool of as many processes as cores, and the network in
  PyTorch on what comes out of it. It reads whole files.

`label_by_daft` is another. OUT is a folder for Parquet files with `track_id` and `genre_top`.

B clips of a batch, M mel bins, X columns of a thumbnail, T samples in time, G genres.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CORES: Final = len(os.sched_getaffinity(0))
BATCH: Final = 8
"""Tracks heard together, as in the job."""

CLIPS_AT_ONCE: Final = 32
WINDOW_SECONDS: Final = 30


def batches(tracks: pa.Table) -> Iterator[dict[str, np.ndarray]]:
    """Rows of a catalog as the job's stages take them."""
    for start in range(0, tracks.num_rows, BATCH):
        part = tracks.slice(start, BATCH)
        batch = {name: np.array(part[name].to_pylist(), dtype=object) for name in ("track_id", "uri", "content_tag")}
        yield batch | {"size_bytes": part["size_bytes"].to_numpy(), "tries": np.zeros(len(part), np.int32)}


def _loop(catalog: str, out: str, bundle_uri: str, number: int, isolated: bool) -> None:
    """Every CORES-th track, in this process."""
    code = 1
    try:
        _label(catalog, Path(out) / f"{number}.parquet", bundle_uri, number, isolated)
        code = 0
    finally:
        if code:
            traceback.print_exc()
        # As Ray ends its actors, which tidy nothing up.
        os._exit(code)


def _label(catalog: str, out: Path, bundle_uri: str, number: int, isolated: bool) -> None:
    import torch

    from cluster.storage.fetch import Fetch
    from mgc.bundle import load_bundle
    from mgc.graphs.export import export_graph
    from mgc.hearing.extract import Extract
    from mgc.labeling.rows import Lineage, labels_rows
    from mgc.models.graph import Graph

    torch.set_num_threads(1)
    bundle = load_bundle(bundle_uri)
    fetch = Fetch(plan=bundle.hearing.plan)
    extract = Extract(bundle.hearing, isolated=isolated)
    # As the job computes it.
    predict = bundle.predictor(graph=Graph(export_graph(bundle)))
    lineage = Lineage(bundle.id, bundle.features_id, "bare")
    tracks = pq.read_table(catalog)
    own = tracks.take(list(range(number, tracks.num_rows, CORES)))
    rows = [labels_rows(predict(extract(fetch(batch))), lineage, datetime.now(UTC)) for batch in batches(own)]
    if rows:
        pq.write_table(pa.concat_tables(rows), out)


def bare(catalog: str, out: str, bundle_uri: str, isolated: bool = False) -> None:
    """The stages in a loop, one process a core."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    arguments = [(catalog, out, bundle_uri, number, isolated) for number in range(CORES)]
    processes = [context.Process(target=_loop, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError(f"exit codes {[process.exitcode for process in processes]}")


def thumbnails(path: str) -> np.ndarray:
    """Thumbnails of a whole file, one for every 30 s, by librosa: uint8 (clips, M, X). See `mgc.features.thumbnail`.

    The same band in hertz whatever the file's rate, since that is what the shipped network was trained on.
    """
    import librosa

    wave_T, rate_hz = librosa.load(path, sr=44100)
    count = max(1, int(len(wave_T) / (WINDOW_SECONDS * rate_hz)))
    clips = []
    for number in range(count):
        window_T = wave_T if count == 1 else wave_T[number * WINDOW_SECONDS * rate_hz :][: WINDOW_SECONDS * rate_hz]
        mel_MX = librosa.feature.melspectrogram(y=window_T, sr=rate_hz, n_fft=2048, hop_length=512, n_mels=128)[:104]
        db_MX = librosa.power_to_db(mel_MX, ref=np.max, top_db=80.0)
        levels_MX = (db_MX + 80.0) * (255 / 80.0)
        columns_X = ((np.arange(128) + 0.5) * levels_MX.shape[1] / 128).astype(int)
        clips.append(np.round(levels_MX[:, columns_X]).astype(np.uint8))
    return np.stack(clips)


def librosa_pool(catalog: str, out: str, bundle_uri: str) -> None:
    """Librosa in a pool, the network here, as it comes."""
    import torch

    from mgc.bundle import load_bundle

    bundle = load_bundle(bundle_uri)
    if bundle.experiment.front_end.kind != "thumbnail":
        raise ValueError(f"the pool makes thumbnails, the bundle hears {bundle.experiment.front_end.kind}")
    tracks = pq.read_table(catalog, columns=["track_id", "uri"])
    genres: list[str] = []
    waiting: list[np.ndarray] = []

    def predict() -> None:
        clips_BMX = torch.from_numpy(np.concatenate(waiting))
        with torch.inference_mode():
            logits_BG = bundle.model(bundle.normalization.apply(clips_BMX))
        for logits in logits_BG.split([len(each) for each in waiting]):
            genres.append(bundle.taxonomy.names[int(logits.mean(0).argmax())])
        waiting.clear()

    with multiprocessing.Pool(CORES) as pool:
        for found in pool.imap(thumbnails, tracks["uri"].to_pylist(), chunksize=4):
            waiting.append(found)
            if sum(map(len, waiting)) >= CLIPS_AT_ONCE:
                predict()
        if waiting:
            predict()
    pq.write_table(pa.table({"track_id": tracks["track_id"], "genre_top": genres}), Path(out) / "0.parquet")


WAYS: Final[dict[str, Callable[[str, str, str], None]]] = {
    "bare": bare,
    "isolated": lambda catalog, out, bundle_uri: bare(catalog, out, bundle_uri, True),
    "librosa_pool": librosa_pool,
}


if __name__ == "__main__":
    _way, _catalog, _out, _bundle = sys.argv[1:]
    Path(_out).mkdir(parents=True)
    WAYS[_way](_catalog, _out, _bundle)
    print(json.dumps({}))
