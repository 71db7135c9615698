"""A night of the label job: its request, its plan and its report."""
