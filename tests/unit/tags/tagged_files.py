"""Audio files of every format with tags that mutagen wrote."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Final

from mutagen import id3
from mutagen.aiff import AIFF
from mutagen.apev2 import APEv2
from mutagen.asf import ASF
from mutagen.flac import FLAC
from mutagen.mp4 import MP4, MP4FreeForm
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from mgc.audio.source import ByteRange, Held
from mgc.tags.reader import MOST_READ_BYTES
from mgc.tags.tags import read_tags
from tests.support.good_files import good_files

Texts = Mapping[str, Sequence[str]]
"""Values by field, the keys of `mgc.tags.reader.FIELDS`."""

SAID: Texts = {
    "genre": ["Hip-Hop/Rap", "Zamrock"],
    "artist": ["Björk", "椎名林檎"],
    "album_artist": ["Various Artists"],
    "album": ["Ágætis byrjun"],
    "title": ["Song; Pt. 2"],
    "date": ["1999"],
    "musicbrainz_recording_id": ["b1a9c0e9-d987-4042-ae91-78d6a3267d69"],
    "musicbrainz_artist_id": ["87c5dedd-371d-4a53-9f7f-80522fb7f3cb"],
    "musicbrainz_album_artist_id": ["89ad4ac3-39f7-470e-963a-56509c546377"],
    "musicbrainz_release_id": ["2c053984-4645-4699-9474-d2c35c227028"],
    "musicbrainz_release_group_id": ["1b022e01-4da6-387b-8658-8678046e4cef"],
}
"""Some texts for each field."""

_ID3: Final = {
    "genre": id3.TCON,
    "artist": id3.TPE1,
    "album_artist": id3.TPE2,
    "album": id3.TALB,
    "title": id3.TIT2,
    "date": id3.TDRC,
}
_DESCRIBED: Final = {
    "musicbrainz_artist_id": "MusicBrainz Artist Id",
    "musicbrainz_album_artist_id": "MusicBrainz Album Artist Id",
    "musicbrainz_release_id": "MusicBrainz Album Id",
    "musicbrainz_release_group_id": "MusicBrainz Release Group Id",
}
_PLAIN: Final = {
    "album_artist": "ALBUMARTIST",
    "musicbrainz_recording_id": "MUSICBRAINZ_TRACKID",
    **{
        field: "MUSICBRAINZ_" + name.removeprefix("MusicBrainz ").upper().replace(" ", "")
        for field, name in _DESCRIBED.items()
    },
}
_MP4: Final = {
    "genre": "\xa9gen",
    "artist": "\xa9ART",
    "album_artist": "aART",
    "album": "\xa9alb",
    "title": "\xa9nam",
    "date": "\xa9day",
}
_ASF: Final = {
    "genre": "WM/Genre",
    "artist": "Author",
    "album_artist": "WM/AlbumArtist",
    "album": "WM/AlbumTitle",
    "title": "Title",
    "date": "WM/Year",
    "musicbrainz_recording_id": "MusicBrainz/Track Id",
}


@cache
def plain_file(extension: str) -> bytes:
    """A short audio file of a format, without tags but for what its encoder says of itself."""
    data = next(file.data for file in good_files(0.5, 1.5) if file.extension == extension)
    if extension == ".mp3":
        stream = io.BytesIO(data)
        id3.delete(stream)
        return stream.getvalue()
    return data


def id3_tags(texts: Texts, encoding: int = id3.Encoding.UTF8) -> id3.ID3:
    """The frames of some texts."""
    tags = id3.ID3()
    for field, values in texts.items():
        if field == "musicbrainz_recording_id":
            tags.add(id3.UFID(owner="http://musicbrainz.org", data=values[0].encode()))
        elif field in _DESCRIBED:
            tags.add(id3.TXXX(encoding=encoding, desc=_DESCRIBED[field], text=list(values)))
        else:
            tags.add(_ID3[field](encoding=encoding, text=list(values)))
    return tags


def with_id3(version: int, separator: str | None, texts: Texts, frames: Sequence[id3.Frame] = ()) -> bytes:
    """An MP3 with an ID3v2 tag."""
    stream, tags = io.BytesIO(plain_file(".mp3")), id3_tags(texts)
    for frame in frames:
        tags.add(frame)
    if version == 3:
        tags.update_to_v23()
        # mutagen turns numbers of genres into names.
        tags.setall("TCON", id3_tags(texts).getall("TCON"))
    tags.save(stream, v1=0, v2_version=version, v23_sep=separator)
    return stream.getvalue()


def with_id3v1(texts: Texts) -> bytes:
    """An MP3 with nothing but an ID3v1 tag."""
    stream = io.BytesIO(plain_file(".mp3"))
    id3_tags(texts).save(stream, v1=2)
    id3.delete(stream, delete_v1=False)
    return stream.getvalue()


def _with_comments(kind: Callable[[Any], Any], extension: str, texts: Texts) -> bytes:
    stream = io.BytesIO(plain_file(extension))
    file = kind(stream)
    if file.tags is None:
        file.add_tags()
    file.tags.clear()
    for field, values in texts.items():
        file.tags[_PLAIN.get(field, field)] = list(values)
    stream.seek(0)
    file.save(stream)
    return stream.getvalue()


def _with_mp4(texts: Texts) -> bytes:
    stream = io.BytesIO(plain_file(".m4a"))
    file = MP4(stream)
    for field, values in texts.items():
        key = _MP4.get(field) or f"----:com.apple.iTunes:{_DESCRIBED.get(field, 'MusicBrainz Track Id')}"
        freeform = key.startswith("-")
        file[key] = [MP4FreeForm(value.encode()) for value in values] if freeform else list(values)
    stream.seek(0)
    file.save(stream)
    return stream.getvalue()


def _with_chunk(kind: Callable[[Any], Any], extension: str, texts: Texts) -> bytes:
    stream = io.BytesIO(plain_file(extension))
    file = kind(stream)
    if file.tags is None:
        file.add_tags()
    for frame in id3_tags(texts).values():
        file.tags.add(frame)
    stream.seek(0)
    file.save(stream)
    return stream.getvalue()


def _with_asf(texts: Texts) -> bytes:
    stream = io.BytesIO(plain_file(".wma"))
    file = ASF(stream)
    for field, values in texts.items():
        file[_ASF.get(field) or _DESCRIBED[field].replace("MusicBrainz ", "MusicBrainz/")] = list(values)
    stream.seek(0)
    file.save(stream)
    return stream.getvalue()


def with_ape(texts: Texts, behind: bytes = b"") -> bytes:
    """An MP3 with an APEv2 tag, and bytes behind it."""
    stream, tags = io.BytesIO(plain_file(".mp3")), APEv2()
    for field, values in texts.items():
        tags[_PLAIN.get(field, field)] = list(values)
    tags.save(stream)
    return stream.getvalue() + behind


WRITERS: Final[Mapping[str, Callable[[Texts], bytes]]] = {
    "ID3v2.3": partial(with_id3, 3, None),
    "ID3v2.4": partial(with_id3, 4, None),
    "APEv2": with_ape,
    "APEv2 before ID3v1": partial(with_ape, behind=b"TAG" + bytes(124) + b"\xff"),
    "FLAC": partial(_with_comments, FLAC, ".flac"),
    "Ogg Vorbis": partial(_with_comments, OggVorbis, ".ogg"),
    "Opus": partial(_with_comments, OggOpus, ".opus"),
    "M4A": _with_mp4,
    "WAV": partial(_with_chunk, WAVE, ".wav"),
    "AIFF": partial(_with_chunk, AIFF, ".aiff"),
    "WMA": _with_asf,
}
"""Functions from texts to a file that has them, by the kind of tag. ID3v1, which cuts them, is not among them."""


class Counted:
    """A file that counts its reads."""

    def __init__(self, data: bytes) -> None:
        self.data, self.asked = data, 0
        self.read_bytes = 0

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        found = Held(self.data).read(ranges)
        self.asked += 1
        self.read_bytes += sum(map(len, found))
        return found


def said(data: bytes, most_bytes: int = MOST_READ_BYTES) -> dict[str, list[str]]:
    """What the tags of a sound file say, after a look at how many bytes were read."""
    source = Counted(data)
    tags = read_tags(source)
    assert tags.fault is None
    assert tags.read_bytes == source.read_bytes <= most_bytes
    return tags.fields
