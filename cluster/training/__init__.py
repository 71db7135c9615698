"""Ray Train: a training over several workers, its batches, its checkpoints and its journal."""
