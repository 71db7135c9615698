"""Turn the folder of a checkpoint into a bundle. Every training becomes a model this way."""

from __future__ import annotations

from pathlib import Path

from cluster.training.job import TrainingJob
from mgc.bundle import Bundle
from mgc.metrics import MadeWith, TrainingFacts
from mgc.training.course import Row, read_best


def load_trained(folder: Path, job: TrainingJob, workers: int) -> tuple[Bundle, list[Row]]:
    """Return the best model of a checkpoint as a bundle, and the history of the training.

    Args:
        folder: local folder that `Course.save` wrote.
        job: training that the checkpoint belongs to.
        workers: data-parallel workers that trained it.

    Raises:
        TrainingError: the training failed; the message says why.
    """
    best = read_best(folder)
    model = job.model()
    model.load_state_dict(best.weights)
    made_with = MadeWith(workers=workers, accumulation=job.profile.accumulation, precision=best.precision)
    facts = TrainingFacts(made_with=made_with)
    return Bundle(job.experiment, job.taxonomy, job.normalization, model.eval(), facts), best.history
