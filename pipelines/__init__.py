"""The jobs, one file each: `python -m pipelines.X`, made for `ray job submit`; `mgc X` is the same."""

import sys

if sys.argv[:1] == ["-m"]:
    # Python is about to run `python -m pipelines.X`. Ctrl-C during its imports ends the job as interrupted.
    from pipelines.command.signals import Interrupts

    Interrupts.of_process()
