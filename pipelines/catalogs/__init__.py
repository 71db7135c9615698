"""Make catalog rows from a SOURCE and a corpus's own metadata."""
