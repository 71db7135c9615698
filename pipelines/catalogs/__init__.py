"""From a SOURCE or a corpus's own metadata to catalog rows."""
