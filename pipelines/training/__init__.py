"""Trainings from end to end: features, searches, comparisons of balance methods, and the bundles that come of them."""
