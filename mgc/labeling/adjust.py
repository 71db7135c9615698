"""Logit adjustment after training: remove the genres' priors from the answers (Menon et al. 2021).

Axes: N clips or tracks, G genres.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.bundle_files import CALIBRATION, BundleFiles


@dataclass(frozen=True)
class PriorAdjustment:
    """An adjustment of logits: z - τ log π.

    With τ = 1 the answer is the genre that would be most probable if all genres were equally frequent. The adjustment
    is the same for each clip of a track, so it can be applied to clips before their logits are averaged.

    Attributes:
        tau: τ, finite and at least 0; 0 changes nothing.
        priors_G: π, each genre's share of the training clips, in the order of the logits. All are greater than zero,
            and they sum to one.

    Raises:
        ValueError: a field is outside these bounds.
    """

    tau: float
    priors_G: tuple[float, ...]  # noqa: N815  (axes in capitals)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tau) and self.tau >= 0):
            raise ValueError("an adjustment's tau is a finite number of at least 0")
        if not all(prior > 0 for prior in self.priors_G) or not math.isclose(sum(self.priors_G), 1, abs_tol=1e-6):
            raise ValueError("an adjustment's priors are greater than zero and sum to one")

    @classmethod
    def from_counts(cls, tau: float, class_counts: Sequence[int]) -> PriorAdjustment:
        """Make an adjustment from the number of training clips of each genre, in the order of the logits.

        Raises:
            ValueError: a genre has no clips.
        """
        total = sum(class_counts)
        return cls(float(tau), tuple(count / total for count in class_counts))

    def apply(self, logits_NG: np.ndarray) -> np.ndarray:
        """Return adjusted logits of the same dtype. The given ones are unchanged."""
        shift_G = self.tau * np.log(np.array(self.priors_G, dtype=np.float64))
        adjusted_NG: np.ndarray = logits_NG - shift_G.astype(logits_NG.dtype)
        return adjusted_NG

    def to_json(self) -> dict[str, float | list[float]]:
        """Return JSON-ready values."""
        return {"tau": self.tau, "priors": list(self.priors_G)}

    @classmethod
    def from_json(cls, value: object) -> PriorAdjustment:
        """Read an adjustment from the values of `to_json`.

        Raises:
            ValueError: the value is not an adjustment.
        """
        if not isinstance(value, dict) or value.keys() != {"tau", "priors"} or not isinstance(value["priors"], list):
            raise ValueError('an adjustment is {"tau": number, "priors": numbers}')
        if not all(type(number) in (int, float) for number in (value["tau"], *value["priors"])):
            raise ValueError("an adjustment holds numbers")
        return cls(float(value["tau"]), tuple(map(float, value["priors"])))


def read_adjustment(files: BundleFiles) -> PriorAdjustment | None:
    """Read the adjustment of a bundle; None if it has none.

    Raises:
        BundleError: the file is corrupt.
    """
    data = files.read_if_there(CALIBRATION)
    value = None if data is None else files.parse_object(data, CALIBRATION).get("adjustment")
    return None if value is None else files.make(lambda: PriorAdjustment.from_json(value), CALIBRATION)


def macro_f1_by_tau(
    taus: Sequence[float], logits_NG: np.ndarray, true_N: np.ndarray, class_counts: Sequence[int]
) -> Mapping[float, float]:
    """Return the macro F1 for each τ: the mean over the genres that occur, 0 to 1.

    Args:
        taus: values of τ to try.
        logits_NG: logits of validation tracks, not adjusted.
        true_N: true genres as int logit indices.
        class_counts: number of training clips of each genre, in the order of the logits.
    """
    # scikit-learn takes a second to import, and labelling does not need it.
    from sklearn.metrics import f1_score

    found: dict[float, float] = {}
    for tau in taus:
        answers_N = PriorAdjustment.from_counts(tau, class_counts).apply(logits_NG).argmax(axis=1)
        found[tau] = float(f1_score(true_N, answers_N, labels=np.unique(true_N), average="macro", zero_division=0.0))
    return found
