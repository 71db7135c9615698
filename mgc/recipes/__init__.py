"""Recipes: functions that return a complete Experiment. Each paper has a module with its citation and reported numbers.

To add one: write the function in its paper's module and list it in `catalogue.RECIPES`.
"""
