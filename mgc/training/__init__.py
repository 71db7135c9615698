"""Balanced training: sampling, augmentation, losses and the loop. Plain PyTorch; who feeds it is not its matter."""
