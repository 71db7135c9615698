"""Scores, comparisons and ensembles of bundles."""
