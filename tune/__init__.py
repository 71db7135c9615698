"""Search a space of a recipe's fields with Ray Tune, and report the results."""
