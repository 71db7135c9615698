"""Searching: a space of a recipe's fields, Ray Tune over it, and the report of what was found."""
