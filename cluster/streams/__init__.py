"""Ray Data: tracks and clips as streams through the stages of mgc."""
