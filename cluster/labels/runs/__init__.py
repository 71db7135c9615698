"""What tables share in which each run is one commit: their format, and the table itself."""
