"""The table of embeddings: what is kept in it, what sounds alike, and what is the same recording."""
