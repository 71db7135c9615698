"""The only package that uses Ray and object storage. Everything below it, in `mgc`, is plain Python, NumPy and PyTorch.

`storage` speaks to disks and to S3: URI → filesystem, SOURCE → audio files, URIs → bytes, one line for every failure.
The other rooms turn mgc's stages into Ray jobs.
"""
