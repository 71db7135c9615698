"""Tags of local files: files a second, CPU and bytes a file, with pictures of 1 MB in front of the sound.

`python -m tests.benchmarks.catalogs.tag_speed [FILES]`: a third each of MP3, FLAC and M4A.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

from mutagen import flac, id3, mp4

from cluster.storage.listing.facts import content_tag
from cluster.storage.tags import TaggedFile, TagReader
from cluster.storage.uri import Uri
from tests.benchmarks.result import say
from tests.unit.tags.tagged_files import plain_file, with_id3

PICTURE = bytes(range(256)) * 4096
TEXTS = {"genre": ["Jazz"], "artist": ["An artist"], "album": ["An album"], "title": ["A title"], "date": ["2026"]}
AT_ONCE, ROUNDS = 512, 5


def make_files() -> dict[str, bytes]:
    """One file of each format, with texts and a picture."""
    picture = flac.Picture()
    picture.data, picture.type, picture.mime = PICTURE, id3.PictureType.COVER_FRONT, "image/jpeg"
    comments, atoms = io.BytesIO(plain_file(".flac")), io.BytesIO(plain_file(".m4a"))
    file = flac.FLAC(comments)
    file.update(TEXTS)
    file.add_picture(picture)
    comments.seek(0)
    file.save(comments)
    other = mp4.MP4(atoms)
    other["\xa9gen"], other["\xa9ART"], other["covr"] = ["Jazz"], ["An artist"], [mp4.MP4Cover(PICTURE)]
    atoms.seek(0)
    other.save(atoms)
    frame = id3.APIC(mime="image/jpeg", type=id3.PictureType.COVER_FRONT, data=PICTURE)
    return {".mp3": with_id3(4, None, TEXTS, [frame]), ".flac": comments.getvalue(), ".m4a": atoms.getvalue()}


def main() -> None:
    """Measure, and print medians."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    with tempfile.TemporaryDirectory() as folder, TagReader() as reader:
        made, listed = make_files(), []
        for number in range(count):
            extension = tuple(made)[number % len(made)]
            path = Path(folder) / f"{number:06}{extension}"
            first = Path(folder) / f"{number % len(made):06}{extension}"
            if number < len(made):
                path.write_bytes(made[extension])
            else:
                # A link costs no disk.
                path.hardlink_to(first)
            listed.append(TaggedFile(str(Uri.of_path(path)), content_tag(path.stat()), path.stat().st_size))
        seen = []
        for _ in range(ROUNDS):
            started, used = time.perf_counter(), time.process_time()
            found = [
                each for start in range(0, count, AT_ONCE) for each in reader.read(listed[start : start + AT_ONCE])
            ]
            seen.append((time.perf_counter() - started, time.process_time() - used))
            assert all(each.fault is None and each.of("genre") == ["Jazz"] for each in found)
        seconds, cpu = min(seen)
        read, size = sum(each.read_bytes for each in found), sum(file.size_bytes for file in listed)
        say(
            f"{count} files: {count / seconds:.0f} a second, {1000 * cpu / count:.2f} ms of CPU and "
            f"{read / count / 1024:.1f} KiB a file, of {size / count / 2**20:.2f} MiB (the fastest of {ROUNDS} rounds)"
        )


if __name__ == "__main__":
    main()
