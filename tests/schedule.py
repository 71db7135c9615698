"""How `make test` deals the files of tests out to its processes: whole files, the longest first."""

from __future__ import annotations

from typing import Any, Final

from xdist.scheduler import LoadScopeScheduling

SECONDS: Final = {
    "tests/jobs/test_way_through.py": 110,
    "tests/jobs/test_drills.py": 90,
    "tests/jobs/test_submitted_jobs.py": 80,
    "tests/cluster/session/test_local_cluster.py": 60,
    "tests/cluster/training/test_training.py": 60,
    "tests/jobs/test_faults.py": 50,
    "tests/tune/test_tune_job.py": 50,
    "tests/jobs/test_label_job.py": 45,
    "tests/cluster/streams/test_sampling_stream.py": 45,
    "tests/jobs/test_bad_input.py": 40,
    "tests/cluster/training/test_training_watched.py": 35,
    "tests/jobs/test_leak_in_red.py": 35,
    "tests/cluster/session/test_resources.py": 30,
    "tests/cluster/streams/test_isolation.py": 30,
    "tests/jobs/test_night_script.py": 30,
    "tests/jobs/test_doctor.py": 25,
    "tests/cluster/training/test_balance.py": 15,
    "tests/cluster/training/test_mlflow.py": 15,
}
"""About how long a file takes, where that is long: most of these start Ray. A file that is not listed is short."""


class LongestFirst(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each process whole files, so that it sets up what a file's tests share once.

    Each process that runs a test with Ray starts a head of its own. The longest files go first: what is left at the
    end is short, and no process waits for another.
    """

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0]

    def _assign_work_unit(self, node: Any) -> None:
        longest = max(self.workqueue, key=lambda file: SECONDS.get(file, 0))
        self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)
