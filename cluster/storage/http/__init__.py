"""Download files over HTTP(S)."""
