"""Corpora: what each holds, where it comes from, and how its tracks become catalog rows."""
