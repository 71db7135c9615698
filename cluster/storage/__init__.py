"""Files on the local disk and in S3: URIs, reading and writing, listing and fetching."""
