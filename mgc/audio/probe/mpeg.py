"""What the first frames of MPEG audio tell about the rest of the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from mgc.audio.mpeg import FrameHeader, SeekTable, frames, parse_seek_table, synchronize
from mgc.audio.probe.facts import Probe
from mgc.audio.source import ByteRange, Source

DECODER_DELAY_SAMPLES: Final = 529
"""Delay of a layer III decoder. After a Xing or Info frame, libmpg123 drops it and the encoder's delay."""

_LOWEST_BPS: Final = {1: 32_000, 2: 8_000}
_HIGHEST_BPS: Final = {1: 448_000, 2: 256_000}
"""Limits of the mean bit rate of a stream: MPEG-1, and the lower sample rates."""

COUNT_TOLERANCE: Final = 0.005
"""A table may count this share of frames more or less than there are: bytes behind the last one, one frame lost."""

_SPARE_FRAMES: Final = 2.0
"""Frames that a table may always count more or less: itself, and one of padding."""


@dataclass(frozen=True)
class MpegStream:
    """A stream of MPEG audio, as its first frames describe it.

    Attributes:
        audio: byte range of the stream; its first frame holds music or the seek table.
        header: header of the first frame of music.
        word: the four bytes of that header.
        first_byte: offset of the first frame of music.
        table: seek table in front of it, or None.
        believable: whether the table's numbers of frames and bytes give a bit rate that exists.
        constant: whether the first frames have one bit rate and no table says otherwise.
        head_frame_bytes: mean length of the first frames.
    """

    audio: ByteRange
    header: FrameHeader
    word: bytes
    first_byte: int
    table: SeekTable | None
    believable: bool
    constant: bool
    head_frame_bytes: float

    @classmethod
    def find(cls, head: bytes, audio: ByteRange) -> Self | None:
        """Return the stream that begins in these bytes, or None.

        Args:
            head: first KiB of the audio, from `audio.start` on.
            audio: byte range of the audio, between the tags.
        """
        start = synchronize(head)
        if start is None:
            return None
        found = list(frames(head, start))
        (offset, header), *others = found
        table = parse_seek_table(head[offset : offset + header.size_bytes], header)
        music = others if table is not None and table.name != "VBRI" and others else found
        offset, first = music[0]
        within = ByteRange(audio.start + start, audio.stop)
        rates = {frame.bit_rate_bps for _, frame in music}
        varies = len(rates) > 1 or (table is not None and table.name != "Info")
        return cls(
            audio=within,
            header=first,
            word=head[offset : offset + 4],
            first_byte=audio.start + offset,
            table=table,
            believable=table is not None and _is_believable(table, header, within),
            constant=not varies,
            head_frame_bytes=sum(frame.size_bytes for _, frame in music) / len(music),
        )

    @property
    def skipped_samples(self) -> int:
        """Samples at the start that libmpg123 drops: the delays of decoder and encoder, if there is a table."""
        if self.table is None or self.table.name == "VBRI":
            return 0
        return DECODER_DELAY_SAMPLES + (self.table.delay_samples or 0)

    @property
    def frame_count(self) -> int:
        """Number of frames of music: by the table, less what a truncated file lacks; else by their mean length."""
        table = self.table
        if self.believable and table is not None and table.frames is not None:
            stated = table.stream_bytes if self.is_truncated else None
            return round(table.frames * min(1.0, self.audio.size_bytes / (stated or self.audio.size_bytes)))
        return max(1, round(self._counted_frames))

    @property
    def _counted_frames(self) -> float:
        return (self.audio.stop - self.first_byte) / self.mean_frame_bytes

    @property
    def mean_frame_bytes(self) -> float:
        """Mean length of the frames; exact at a constant rate, except for encoders that never pad a frame."""
        exact = self.header.mean_size_bytes
        return exact if self.constant and abs(self.head_frame_bytes - exact) < 0.25 else self.head_frame_bytes

    @property
    def duration_seconds(self) -> float:
        """Length of the audio that is there, without delays and padding."""
        padding = (self.table.padding_samples or 0) if self.table is not None and not self.is_truncated else 0
        dropped = self.skipped_samples + max(0, padding - DECODER_DELAY_SAMPLES)
        return max(0, self.frame_count * self.header.samples - dropped) / self.header.sample_rate_hz

    @property
    def announced_seconds(self) -> float | None:
        """Length according to the table, even if the file is truncated; None without a believable table."""
        if not self.believable or self.table is None or self.table.frames is None:
            return None
        return self.table.frames * self.header.samples / self.header.sample_rate_hz

    @property
    def contradicts_itself(self) -> bool:
        """Whether the table counts other frames than the bytes of a constant rate can be, or too few bytes of others.

        It may describe only the first of several files that were joined.
        """
        if self.is_truncated or self.table is None or self.table.frames is None:
            return False
        if not self.constant:
            more = self.audio.size_bytes - (self.table.stream_bytes or self.audio.size_bytes)
            return more > max(_SPARE_FRAMES * self.head_frame_bytes, COUNT_TOLERANCE * self.audio.size_bytes)
        counted = self._counted_frames
        return abs(counted - self.table.frames) > max(_SPARE_FRAMES, COUNT_TOLERANCE * counted)

    @property
    def is_truncated(self) -> bool:
        """Whether the file ends earlier than the table says, by its bytes and, at a constant rate, by its frames."""
        table = self.table
        if not self.believable or table is None or table.frames is None or table.stream_bytes is None:
            return False
        lacks_bytes = table.stream_bytes > self.audio.size_bytes + self.header.size_bytes
        return lacks_bytes and not (self.constant and self._counted_frames >= table.frames - _SPARE_FRAMES)


def probe_mpeg(source: Source, head: bytes, audio: ByteRange, tags: tuple[str, ...]) -> Probe | None:
    """Return facts of bare MPEG audio; None if no frames follow one another in the head.

    Args:
        source: file; it is not read again.
        head: first bytes of the audio, from `audio.start` on.
        audio: byte range of the audio, between the tags.
        tags: names of the tags.
    """
    stream = MpegStream.find(head, audio)
    if stream is None:
        return None
    duration_seconds = stream.duration_seconds
    return Probe(
        container="mp3",
        codec=f"mp{stream.header.layer}",
        duration_seconds=duration_seconds,
        duration_is="announced" if stream.believable else "estimated",
        sample_rate_hz=stream.header.sample_rate_hz,
        channels=stream.header.channels,
        bit_rate_mode="constant" if stream.constant else "variable",
        bit_rate_bps=round(8 * stream.audio.size_bytes / duration_seconds) if duration_seconds else None,
        tags=tags,
        audio=stream.audio,
    )


def _is_believable(table: SeekTable, header: FrameHeader, audio: ByteRange) -> bool:
    """Return whether the table gives a bit rate that exists, and covers about the whole file."""
    if table.frames is None:
        return False
    stream_bytes = table.stream_bytes or audio.size_bytes
    seconds = table.frames * header.samples / header.sample_rate_hz
    mean_bps = 8 * stream_bytes / seconds
    # If several files were joined, the table of the first one does not describe the others.
    whole = stream_bytes > 0.9 * audio.size_bytes - header.size_bytes
    return whole and 0.95 * _LOWEST_BPS[header.version] < mean_bps < 1.05 * _HIGHEST_BPS[header.version]
