"""The two stages of a training: the whole network, then, where it is asked for, its head alone."""

from __future__ import annotations

from mgc.training.loop import TrainingConfig


def next_epoch(config: TrainingConfig, last: int, stale: int) -> int | None:
    """The epoch to train after another; None where training is over.

    Epochs 0 to `epochs` - 1 train the whole network, the `head_epochs` after them the head. Where patience ends the
    first stage early, the second one begins with the same number nevertheless: an epoch's number alone says what
    is to be done in it.

    Args:
        config: epochs and patience.
        last: the last epoch that is done, -1 where there is none.
        stale: epochs of its stage without a better validation score, up to it.
    """
    ends = (config.epochs, config.epochs + config.head_epochs)
    epoch = last + 1
    if config.patience and stale >= config.patience:
        epoch = ends[0] if last < ends[0] else ends[1]
    return epoch if epoch < ends[1] else None
