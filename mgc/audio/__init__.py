"""From bytes to samples: which seconds of a track are heard, and how they are decoded."""
