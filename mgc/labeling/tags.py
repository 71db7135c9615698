"""From the tags of a network to genres, and to the verdict that a recording is no music.

A network that others trained answers in its own words, its tags. A map says which of them speak for which genre.

Axes: N clips, C clips of one track, T tags, G genres.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mgc.configuration import JsonObject
from mgc.errors import ConfigError, ErrorKind
from mgc.taxonomy import Taxonomy

LEAST_PROBABILITY: Final = 1e-9
"""Added to a genre's probability before the logarithm."""

MUSIC_AT_MOST: Final = 0.1
"""A recording can only be called no music if no tag of music is more probable than this."""

GENRES: Final = "genres"
"""Name of the vocabulary of a network whose outputs are genres."""

Link = Literal["sigmoid", "softmax"]
"""How logits become probabilities: `sigmoid`, each tag by itself; `softmax`, one tag of all."""


class Evidence(NamedTuple):
    """A tag that speaks for a genre."""

    genre: str
    tag: str
    weight: float


class Verdict(NamedTuple):
    """The reason why a recording gets no genre, a sentence about it, and the tag that is heard instead of music."""

    kind: ErrorKind
    message: str
    tag: str


@dataclass(frozen=True)
class Vocabulary:
    """What the outputs of a network mean.

    Attributes:
        name: name of the list of tags, such as `audioset`; maps that come with mgc are found by it.
        tags: name of each output, in order.
        link: how logits become probabilities.
        music: tags that say that there is music; empty if the network knows nothing else.
        silence: tags that say that there is nothing to be heard.

    Raises:
        ConfigError: a tag is empty or occurs twice, or `music` or `silence` names none of them.
    """

    name: str
    tags: tuple[str, ...]
    link: Link = "sigmoid"
    music: tuple[str, ...] = ()
    silence: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        twice = sorted(tag for tag, count in Counter(self.tags).items() if count > 1)
        if not self.tags or not all(self.tags) or twice:
            raise ConfigError(f"tags: each needs a name of its own ({', '.join(twice) or 'one is empty'}).")
        strange = sorted({*self.music, *self.silence} - set(self.tags))
        if strange:
            raise ConfigError(f"tags: {', '.join(strange)} is not among them; correct music and silence.")

    def probabilities(self, logits_NT: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probability of each tag, (clips, tags)."""
        wide_NT = logits_NT.astype(np.float64)
        if self.link == "sigmoid":
            sigmoid_NT: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * wide_NT))
            return sigmoid_NT
        raised_NT = np.exp(wide_NT - wide_NT.max(axis=1, keepdims=True))
        softmax_NT: NDArray[np.float64] = raised_NT / raised_NT.sum(axis=1, keepdims=True)
        return softmax_NT

    def with_music(self, tags: Iterable[str]) -> Vocabulary:
        """Return a vocabulary in which these tags are music, too. One of music only stays as it is."""
        return replace(self, music=tuple(dict.fromkeys([*self.music, *tags]))) if self.music else self

    def judge(self, logits_CT: NDArray[np.floating]) -> Verdict | None:
        """Return why a track is no music; None if it is, or if the network does not know.

        A track is no music if, on average over its clips, no tag of music is more probable than 0.1 and another tag is
        more probable than all of them.

        Args:
            logits_CT: logits of the track's clips; at least one clip.
        """
        if not self.music:
            return None
        mean_T = self.probabilities(logits_CT).mean(axis=0)
        music = float(mean_T[self._music_places].max())
        best = self.tags[int(mean_T.argmax())]
        if music > MUSIC_AT_MOST or best in self.music:
            return None
        kind = ErrorKind.SILENT if best in self.silence else ErrorKind.NOT_MUSIC
        return Verdict(kind, f"the model hears {best} ({mean_T.max():.2f}) and no music ({music:.2f})", best)

    @functools.cached_property
    def _music_places(self) -> list[int]:
        return [self.tags.index(tag) for tag in self.music]

    def to_json(self) -> JsonObject:
        """Return JSON-ready values."""
        return {
            "name": self.name,
            "tags": list(self.tags),
            "link": self.link,
            "music": list(self.music),
            "silence": list(self.silence),
        }

    @classmethod
    def from_json(cls, value: object) -> Vocabulary:
        """Read a vocabulary from the values of `to_json`.

        Raises:
            ConfigError: the value is not a vocabulary.
        """
        fields = {"name", "tags", "link", "music", "silence"}
        if not isinstance(value, dict) or value.keys() != fields or value["link"] not in ("sigmoid", "softmax"):
            raise ConfigError("tags: a vocabulary has name, tags, link (sigmoid or softmax), music and silence.")
        lists = [value["tags"], value["music"], value["silence"]]
        if not isinstance(value["name"], str) or not all(_is_texts(each) for each in lists):
            raise ConfigError("tags: tags, music and silence are lists of names.")
        return cls(value["name"], tuple(lists[0]), value["link"], tuple(lists[1]), tuple(lists[2]))


@dataclass(frozen=True)
class TagMap:
    """Which tags speak for which genre.

    Attributes:
        vocabulary: what the outputs of the network mean.
        genres: names of the genres, in the order of the answers.
        evidence: tags of each genre, with their weights.

    Raises:
        ConfigError: a tag or a genre is unknown, a pair occurs twice, a weight is not a positive number, or a genre has
            no tag.
    """

    vocabulary: Vocabulary
    genres: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    def __post_init__(self) -> None:
        for genre, tag, weight in self.evidence:
            if tag not in self.vocabulary.tags or genre not in self.genres:
                raise ConfigError(f"tags: {tag} for {genre}: no such tag or genre.")
            if not (math.isfinite(weight) and weight > 0):
                raise ConfigError(f"tags: {tag} for {genre}: the weight {weight} is not a positive number.")
        pairs = Counter((genre, tag) for genre, tag, _ in self.evidence)
        twice = next((pair for pair, count in pairs.items() if count > 1), None)
        if twice is not None:
            raise ConfigError(f"tags: {twice[1]} stands twice for {twice[0]}; keep one.")
        without = [genre for genre in self.genres if genre not in {found.genre for found in self.evidence}]
        if without:
            raise ConfigError(f"tags: no tag speaks for {', '.join(without)}, so it could never be the answer.")

    @functools.cached_property
    def _weights_TG(self) -> NDArray[np.float64]:  # noqa: N802  (axes in capitals)
        weights_TG = np.zeros((len(self.vocabulary.tags), len(self.genres)))
        for genre, tag, weight in self.evidence:
            weights_TG[self.vocabulary.tags.index(tag), self.genres.index(genre)] = weight
        return weights_TG

    def judge(self, logits_CT: NDArray[np.floating]) -> Verdict | None:
        """Return why a track is no music; see `Vocabulary.judge`.

        Args:
            logits_CT: logits of the track's clips; at least one clip.
        """
        return self.sounds.judge(logits_CT)

    @functools.cached_property
    def sounds(self) -> Vocabulary:
        """The vocabulary, in which a tag that speaks for a genre is music, such as speech for a genre Spoken."""
        return self.vocabulary.with_music(found.tag for found in self.evidence)

    def apply(self, logits_NT: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return logits of genres: the logarithm of the weighted sum of the tags' probabilities.

        Their softmax is each genre's share of what speaks for any genre.

        Args:
            logits_NT: logits of the network, (clips, tags).

        Returns:
            float32 of shape (clips, genres).
        """
        found_NG = self.vocabulary.probabilities(logits_NT) @ self._weights_TG
        logits_NG: NDArray[np.float32] = np.log(found_NG + LEAST_PROBABILITY).astype(np.float32)
        return logits_NG

    def to_json(self) -> JsonObject:
        """Return JSON-ready values, without the genres: a bundle has them in its taxonomy."""
        return {"vocabulary": self.vocabulary.to_json(), "evidence": [list(found) for found in self.evidence]}

    @classmethod
    def from_json(cls, value: object, taxonomy: Taxonomy) -> TagMap:
        """Read a map from the values of `to_json`.

        Raises:
            ConfigError: the value is not a map to the genres of the taxonomy.
        """
        if not isinstance(value, dict) or value.keys() != {"vocabulary", "evidence"}:
            raise ConfigError("tags: a map has a vocabulary and evidence.")
        evidence = value["evidence"]
        if not isinstance(evidence, list) or not all(_is_evidence(found) for found in evidence):
            raise ConfigError("tags: evidence is a list of genre, tag and weight.")
        found = tuple(Evidence(genre, tag, float(weight)) for genre, tag, weight in evidence)
        return cls(Vocabulary.from_json(value["vocabulary"]), taxonomy.names, found)


def _is_texts(value: object) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_evidence(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    genre, tag, weight = value
    return isinstance(genre, str) and isinstance(tag, str) and type(weight) in (int, float)
