"""A night: asked for, planned, reported."""
