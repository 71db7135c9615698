"""What a graph's file says of itself: facts for a program that has never heard of mgc."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from mgc.bundle import Bundle
from mgc.configuration import to_json
from mgc.features.front_end import build_front_end
from mgc.labeling.tags import LEAST_PROBABILITY
from mgc.version import __version__

_ANSWER: Final = "A track's answer is the softmax of the mean of its clips' logits, one for each genre."
_ANSWER_OF_TAGS: Final = (
    "The link of the logits gives the probability of each class. A genre's logit is the logarithm of the sum of its "
    f"tags' probabilities, each times its weight, plus {LEAST_PROBABILITY:g}. A track's answer is the softmax of the "
    "mean of its clips' logits of genres."
)


def describe_graph(bundle: Bundle, terms: Mapping[str, str]) -> dict[str, str]:
    """Return what a program that has never heard of mgc needs to know of a bundle's graph, name → text or JSON.

    Args:
        bundle: the bundle.
        terms: licence and notice of its weights, by the names of the files that hold them.
    """
    known, experiment = bundle.vocabulary, bundle.experiment
    front_end = build_front_end(experiment.front_end)
    facts = {
        "mgc": __version__,
        "bundle_id": bundle.id,
        "features_id": bundle.features_id,
        "recipe": experiment.recipe,
        "link": known.link,
        "answer": _ANSWER if bundle.tags is None else _ANSWER_OF_TAGS,
        # Adjustment and calibration are parts of the graph.
        "temperature": "1",
        "classes": list(known.tags),
        "genres": bundle.taxonomy.to_json(),
        "tags": None if bundle.tags is None else bundle.tags.to_json(),
        "sounds": None if bundle.sounds is None else bundle.sounds.to_json(),
        "features": {"shape": list(front_end.shape), "dtype": front_end.dtype},
        "front_end": to_json(experiment.front_end),
        "listening": to_json(experiment.listening),
        "notices": list(bundle.training.notices),
        **terms,
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in facts.items()
        if value is not None
    }
