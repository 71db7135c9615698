"""Read what an audio file's own tags say, a few KiB of it, and turn the text of a genre tag into genres."""
