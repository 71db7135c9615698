"""From what others published to a bundle at hand."""
