"""The decoder's cell: a child process that computes on bytes from anywhere, answers, and can do nothing else."""
