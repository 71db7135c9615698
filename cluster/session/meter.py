"""Count the work of a job's stages, for the job's report and for Prometheus, which scrapes Ray's nodes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.session.counts import ProgressHandle
from cluster.session.ending_counter import EndingCounter
from mgc.audio.cuts import Cuts
from mgc.audio.recording import Recording


class Meter:
    """Counters of one worker process. Its node publishes them on Ray's metrics port until the process ends.

    `ray_mgc_tracks_total` by `status`, `ray_mgc_errors_total` by `kind`, `ray_mgc_read_bytes_total`,
    `ray_mgc_audio_seconds_total` and `ray_mgc_heard_seconds_total`.
    """

    def __init__(self, progress: ProgressHandle) -> None:
        """Register the counters.

        Args:
            progress: counters of the job.
        """
        self._progress = progress
        self._tracks = EndingCounter("mgc_tracks", "Tracks labelled or quarantined.", ("status",))
        self._errors = EndingCounter("mgc_errors", "Quarantined tracks by kind of error.", ("kind",))
        self._bytes = EndingCounter("mgc_read_bytes", "Bytes of audio files read.")
        self._audio = EndingCounter("mgc_audio_seconds", "Length of the decoded tracks.")
        self._heard = EndingCounter("mgc_heard_seconds", "Seconds of them that were decoded.")

    def count_listened(
        self, batch: dict[str, np.ndarray], recordings: np.ndarray, began: float, seconds: tuple[float, float]
    ) -> None:
        """Count tracks that were fetched and decoded.

        Args:
            batch: output of `Extract`, with `size_bytes`.
            recordings: output of `Fetch`.
            began: time of the start, in seconds since 1970.
            seconds: duration of fetching, and of decoding and features.
        """
        read = sum(_read_bytes(recording) for recording in recordings)
        audio = float(np.nansum(batch["duration_seconds"].astype(float)))
        listened = float(np.nansum(batch["seconds_listened"].astype(float)))
        failed = sum(kind is not None for kind in batch["error_kind"])
        tracks = len(batch["track_id"])
        sums = {
            "size_bytes": int(np.maximum(batch["size_bytes"], 0).sum(dtype=float)),
            "bytes_read": read,
            "audio_seconds": audio,
        }
        sums |= {"heard_seconds": listened, "fetch_seconds": seconds[0], "listen_seconds": seconds[1]}
        self._progress.add({"tracks": tracks, "quarantined": failed}, sums=sums, began=began)
        for counter, value in ((self._bytes, read), (self._audio, audio), (self._heard, listened)):
            if value > 0:
                counter.inc(value)

    def count_labelled(self, rows: pa.Table, seconds: float) -> None:
        """Count rows of the labels table.

        Args:
            rows: label rows, `schema.LABELS`.
            seconds: time that the network took.
        """
        self._progress.add({}, sums={"predict_seconds": seconds})
        for status, count in Counter(rows["status"].to_pylist()).items():
            self._tracks.inc(count, {"status": status})
        for kind, count in Counter(pc.drop_null(rows["error_kind"]).to_pylist()).items():
            self._errors.inc(count, {"kind": kind})


def _read_bytes(recording: Recording | None) -> int:
    """Return the bytes that were read; of a file that is read while it is decoded, all that it has."""
    if recording is None:
        return 0
    if isinstance(recording, Cuts):
        return recording.read_bytes
    return len(recording) if isinstance(recording, bytes) else recording.size_bytes
