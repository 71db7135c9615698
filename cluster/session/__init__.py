"""Ray itself: joined or started, what it has, how it is shared out, and what it shows of a job's progress."""
