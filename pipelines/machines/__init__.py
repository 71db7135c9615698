"""Looking at machines and starting a cluster on one: what `doctor` and `cluster` do."""
