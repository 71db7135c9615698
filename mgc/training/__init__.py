"""Balanced training: sampling, augmentation, losses and the loop. Plain PyTorch, whatever feeds it."""
