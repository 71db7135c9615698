"""Where files lie and how they get here: URIs, S3 and the local disk, listing and fetching."""
