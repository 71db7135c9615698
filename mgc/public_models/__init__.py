"""Models that others trained and published: how their files become weights of our networks."""
