"""The jobs, one file each: `python -m pipelines.X`, made for `ray job submit`; `mgc X` is the same."""
