"""The documentation site: which pages it has, and those that are made from the code."""
