"""The labels table: planned, staged, committed, compared, exported; what a night takes."""
