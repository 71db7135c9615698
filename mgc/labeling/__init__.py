"""From features to genre labels: logits of clips, one answer a track, a row of the labels table."""
