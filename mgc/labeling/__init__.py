"""From features to genre labels: logits of clips, one answer per track, a row of the labels table."""
