"""The demo: one job after the other, on a synthetic corpus."""
