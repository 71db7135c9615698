"""Shared parts of every job's command line."""
