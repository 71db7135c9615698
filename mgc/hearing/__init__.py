"""Hear a recording: decode its windows and compute their features, in a cell where asked."""
