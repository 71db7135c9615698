"""What every job's command line has in common."""
