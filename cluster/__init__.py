"""The only package that uses Ray and object storage. Everything below it, in `mgc`, is plain Python, NumPy and PyTorch.

One file a concern: `storage` (URI → filesystem, one line for every failure), `listing` (SOURCE → audio files) and
`fetch` (URIs → bytes, with errors row by row) speak to disks and to S3; the rest turns mgc's stages into Ray jobs.
"""
