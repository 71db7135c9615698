"""Check machines (`mgc doctor`), and start a cluster on one (`mgc cluster`)."""
