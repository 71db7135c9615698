"""Extensions of audio files. The content decides in the end; see `cluster.storage.listing`."""

from __future__ import annotations

import re
from typing import Final

AUDIO_EXTENSIONS: Final = frozenset(
    f".{name}"
    for name in (
        # MPEG audio and AAC, bare or in MP4
        *("mp3", "mp2", "mp1", "mpa", "m2a", "aac", "adts", "m4a", "m4b", "m4r", "mp4", "mov", "m4v", "3gp"),
        *("3g2", "3ga", "f4a", "f4v", "ismv", "isma", "psp"),
        # Ogg, Matroska
        *("ogg", "oga", "ogv", "ogx", "opus", "spx", "mka", "mkv", "mk3d", "webm", "weba"),
        # PCM and its relatives
        *("wav", "wave", "bwf", "rf64", "w64", "aif", "aiff", "aifc", "afc", "au", "snd", "caf", "voc"),
        # lossless
        *("flac", "wv", "ape", "apl", "mac", "tta", "tak", "shn", "dsf", "qoa"),
        # others, of film and telephone too
        *("wma", "wmv", "asf", "xwma", "mpc", "mp+", "mpp", "ac3", "eac3", "ec3", "dts", "dtshd", "thd", "amr", "awb"),
        *("oma", "aa3", "omg", "ra", "rm", "rmvb", "avi", "flv", "mpg", "mpeg", "vob", "m2ts", "mts"),
    )
)
"""Extensions of the files that mgc's decoders may open, in lower case. The case of a file name does not matter."""

_EXTENSION: Final = re.compile(r"\.(?=[^.]*[a-z])[a-z0-9+_~!#$@-]{1,12}$")
"""A letter must be among its characters: `Symphony No.5` and `Mr. Smith` have no extension."""


def extension_of(name: str) -> str:
    """Return the extension of a file name in lower case, with its dot; "" if there is none."""
    found = _EXTENSION.search(name.lower(), 1)
    return found.group() if found else ""
