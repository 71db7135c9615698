"""Methods for unbalanced genres, by name. A command line lists them, so this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NATURAL: Final = {"training.balance": "natural"}

METHODS: Final[Mapping[str, Mapping[str, str]]] = {
    "natural": _NATURAL,
    "class_balanced": {"training.balance": "class_balanced"},
    "square_root": {"training.balance": "square_root"},
    "repeat_factor": {"training.balance": "repeat_factor"},
    "progressive": {"training.balance": "progressive"},
    "effective_number": {**_NATURAL, "training.loss.beta": "0.999"},
    "focal": {**_NATURAL, "training.loss.kind": "focal"},
    "effective_number_focal": {**_NATURAL, "training.loss.kind": "focal", "training.loss.beta": "0.999"},
    "balanced_softmax": {**_NATURAL, "training.loss.kind": "balanced_softmax"},
    "logit_adjusted": {**_NATURAL, "training.loss.kind": "logit_adjusted"},
    "adjusted_after": {**_NATURAL, "training.adjust_after": "1"},
    "adjusted_after_chosen": {**_NATURAL, "training.adjust_after": "0,0.25,0.5,0.75,1,1.25,1.5,2"},
    "retrained_head": {**_NATURAL, "training.head_epochs": "10"},
}
"""Fields that each method sets on top of the recipe.

With a τ of 1, `logit_adjusted` and `balanced_softmax` are the same except for rounding. Any difference in their scores
is chance."""
