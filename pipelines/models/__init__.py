"""Which bundle a job takes, and from what others published to a bundle at hand."""
