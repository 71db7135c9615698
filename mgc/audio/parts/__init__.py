"""Find the streams of a recording: what was glued together, what junk surrounds it, and which counts are wrong."""
