"""Bundles' networks as ONNX: written, compared with PyTorch, and described for other programs."""
