"""Scores of a model, results of a labels run, and the HTML page that shows them."""
