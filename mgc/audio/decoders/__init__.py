"""Streams of audio, and the decoders that open them."""
