"""The two stages of a training: the whole network, then optionally its head alone."""

from __future__ import annotations

from mgc.training.loop import TrainingConfig


def next_epoch(config: TrainingConfig, last: int, stale: int) -> int | None:
    """Return the epoch to train after another; None if training is over.

    Epochs 0 to `epochs` - 1 train the whole network, the `head_epochs` after them the head. If patience ends the first
    stage early, the second still begins with the same number, so the number of an epoch alone tells its stage.

    Args:
        config: epochs and patience.
        last: last finished epoch; -1 if there is none.
        stale: number of epochs without a better validation score at the end of its stage.
    """
    ends = (config.epochs, config.epochs + config.head_epochs)
    epoch = last + 1
    if config.patience and stale >= config.patience:
        epoch = ends[0] if last < ends[0] else ends[1]
    return epoch if epoch < ends[1] else None
