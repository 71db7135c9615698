"""What a local Ray needs on this machine, and what it leaves behind."""
