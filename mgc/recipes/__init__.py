"""Recipes: functions that return a whole Experiment. One module a paper; its citation and reported numbers stand in it.

To add one: write the function in its paper's module and list it in `catalogue.RECIPES`.
"""
