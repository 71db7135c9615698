"""Find the streams of a recording: what was glued together, what stands around it, and what its counts say wrongly."""
