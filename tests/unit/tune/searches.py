"""A search that never ran, for the tests of its records and its report."""

from __future__ import annotations

import math
import random

from cluster.storage.uri import Uri
from mgc.recipes.space import Alternatives, Choice, Integer, LogUniform, Space, Uniform
from tune.records import SearchRecord, Status, TrialRecord

SPACE = Space(
    {
        "training.learning_rate": LogUniform(1e-4, 1e-1),
        "training.batch_size": Choice((16, 32, 64)),
        "model.channels": Choice(([4], [4, 8])),
        "model.blocks": Integer(0, 3),
        "training.augment.gain": Uniform(0.0, 0.5),
        "balance": Alternatives({"one": {"training.balance": "natural"}, "two": {"training.balance": "square_root"}}),
    }
)


def search(trials: int = 24, metric: str = "macro_f1") -> SearchRecord:
    """A search in which the learning rate is nearly all that matters; one trial in eight failed."""
    chance = random.Random(0)
    found = []
    for number in range(1, trials + 1):
        point = {
            "training.learning_rate": 10 ** chance.uniform(-4, -1),
            "training.batch_size": chance.choice([16, 32, 64]),
            "model.channels": chance.choice([[4], [4, 8]]),
            "model.blocks": chance.randint(0, 3),
            "training.augment.gain": chance.uniform(0, 0.5),
            "balance": chance.choice(["one", "two"]),
        }
        # Best at a rate of 0.01.
        worth = 0.9 - 0.2 * abs(math.log10(point["training.learning_rate"]) + 2) + 0.01 * chance.random()
        if number % 8 == 0:
            reason = "training: the loss became nan in epoch 1 <script>alert(1)</script>"
            found.append(TrialRecord(number, f"t{number}", point, "failed", reason))
            continue
        epochs = 9 if worth > 0.7 else 3
        status: Status = "done" if epochs == 9 else "stopped"
        scores = [(1 - worth if metric == "loss" else worth) * epoch / epochs for epoch in range(1, epochs + 1)]
        history = [
            {
                "epoch": epoch,
                "train_loss": 1.0 / epoch,
                "train_accuracy": 0.5,
                "validation_loss": 1.1 / epoch,
                "validation_accuracy": score,
                "validation_macro_f1": score,
                "score": score,
            }
            for epoch, score in enumerate(scores, 1)
        ]
        found.append(
            TrialRecord(
                number,
                f"t{number}",
                point,
                status,
                "",
                scores[-1],
                epochs,
                4.0 * epochs,
                history,
                Uri.of_path(f"/checkpoints/{number}"),
            )
        )
    return SearchRecord(
        "tiny", SPACE, metric, "random", "asha", "0123456789ab", found, 321.0, {"features": "/data/features"},
        ["Noise, not music."],
    )  # fmt: skip
