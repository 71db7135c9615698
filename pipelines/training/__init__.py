"""Trainings from end to end: features, searches, comparisons of balance methods, and the resulting bundles."""
