"""The public models of which `mgc pull` makes bundles: where each is published, what it is, and under which terms.

Only tensors are taken from a published file. Size and SHA-256 of some are known; the others are checked by their
tensors alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mgc.bundle_names import BundleName

_MIT: Final = """\
MIT License

Copyright (c) {holder}

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

_ISC: Final = """\
ISC License

Copyright (c) {holder}

Permission to use, copy, modify, and/or distribute this software for any
purpose with or without fee is hereby granted, provided that the above
copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH
REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF MERCHANTABILITY
AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM
LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR
OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR
PERFORMANCE OF THIS SOFTWARE.
"""

_RELEASE: Final = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"


@dataclass(frozen=True)
class PublishedModel:
    """A model that others trained and published.

    Attributes:
        name: its name in mgc.
        what: one line about it.
        file_name: name of the published file.
        address: where the file can be downloaded; "" if it is part of a package of the Python registry.
        requirement: that package, as pip names it; "" if the file has an address.
        size_bytes: size of the file; None if it is not known to mgc.
        sha256: hexadecimal SHA-256 of the file; None if it is not known to mgc.
        licence: text of the licence.
        notice: who made it, from what, and what mgc changed.
    """

    name: BundleName
    what: str
    file_name: str
    address: str
    requirement: str
    size_bytes: int | None
    sha256: str | None
    licence: str
    notice: str


def _mobilenet(
    name: BundleName, width: float, score: int, size_bytes: int | None = None, sha256: str | None = None
) -> PublishedModel:
    file_name = f"{name}_as_mAP_{score}.pt"
    return PublishedModel(
        name,
        f"EfficientAT MobileNet of width {width:g}, trained on AudioSet; 527 classes of sound",
        file_name,
        f"{_RELEASE}/{file_name}",
        "",
        size_bytes,
        sha256,
        _MIT.format(holder="2022 Florian Schmid"),
        f"The weights of this bundle are those of {file_name}, release v0.0.1 of github.com/fschmid56/EfficientAT: "
        "F. Schmid, K. Koutini and G. Widmer, Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge "
        "Distillation, ICASSP 2023. Their licence is in the file LICENSE.\n\n"
        "The network was trained on AudioSet (Google). The names of its classes are AudioSet's, under CC BY 4.0.\n\n"
        "mgc stored the tensors as safetensors under other names, and changed no number.\n",
    )


MODELS: Final[Mapping[BundleName, PublishedModel]] = {
    model.name: model
    for model in (
        _mobilenet(BundleName.MN01, 0.1, 298),
        _mobilenet(BundleName.MN02, 0.2, 378),
        _mobilenet(
            BundleName.MN04,
            0.4,
            432,
            4_066_513,
            "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
        ),
        _mobilenet(BundleName.MN05, 0.5, 443),
        _mobilenet(BundleName.MN10, 1.0, 471),
        PublishedModel(
            BundleName.MUSICNN,
            "musicnn, trained on the Million Song Dataset; 50 tags of listeners",
            "musicnn-0.1.0-py3-none-any.whl",
            "",
            "musicnn==0.1.0",
            29_292_476,
            "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
            _ISC.format(holder="2019 Music Technology Group, Universitat Pompeu Fabra. Code developed by Jordi Pons."),
            "The weights of this bundle are those of MSD_musicnn in the package musicnn 0.1.0: J. Pons and X. Serra, "
            "musicnn: Pre-trained convolutional neural networks for music audio tagging, ISMIR 2019 late-breaking "
            "demo. Their licence is in the file LICENSE.\n\n"
            "The network was trained on the Million Song Dataset with tags of Last.fm's listeners.\n\n"
            "mgc stored the tensors as safetensors under other names, and changed no number.\n",
        ),
    )
}
"""Every public model by its name, in the order of the names."""
