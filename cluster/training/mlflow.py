"""Log a training as a run on an MLflow server. MLflow is an extra (`pip install 'mgc[mlflow]'`), imported when used.

A server that does not answer, or a missing package, never ends a training. One line reports the problem, and the unsent
numbers are sent later.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cluster.storage.failures import redact

EXPERIMENT: Final = "mgc"
"""Name of the experiment that the runs belong to, unless MLFLOW_EXPERIMENT_NAME names another."""

KEY_TAG: Final = "mgc.training_key"
"""Tag by which a resumed training finds its run."""

SEND_SECONDS: Final = 15.0
"""Time between two requests that send the collected numbers."""

LONGEST_WAIT_SECONDS: Final = 600.0
"""Longest wait before the next try if the server does not answer."""

_LARGEST: Final = {"metrics": 1000, "params": 100}
"""Most entries that a server accepts in one request."""

_LONGEST_VALUE: Final = 500
_KEPT: Final = 50_000


class MlflowRun:
    """One run. It begins at once, or continues the open run of the same key.

    Args:
        uri: URI of the server (`http://…`), or of any store that MLflow knows.
        name: name of the run.
        key: key of the training. The same key is the same training, resumed.
        parameters: settings by name.

    Attributes:
        problem: one line about what has not been sent so far; None if everything has.
    """

    def __init__(self, uri: str, name: str, key: str, parameters: Mapping[str, bool | float | str]) -> None:
        self.problem: str | None = None
        self._uri = uri
        self._key = key
        self._name = name
        self._parameters = dict(parameters)
        self._client: Any = None
        self._run_id: str | None = None
        self._metrics: list[Any] = []
        self._wait_seconds = SEND_SECONDS
        self._send_at = time.monotonic() + SEND_SECONDS
        # These are MLflow's settings: a training must not wait for minutes, and sends no usage data.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # A job's stdout is for its results.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        try:
            import mlflow
        except ImportError as error:
            self.problem = (
                f"MLflow at {redact(uri)} gets nothing: the package is missing here ({error}); "
                "pip install 'mgc[mlflow]'."
            )
            return
        self._mlflow = mlflow
        self._try(self._begin)

    @property
    def works(self) -> bool:
        """Whether the package is installed."""
        return hasattr(self, "_mlflow")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers at a step. Send all recorded numbers if it is time to."""
        if not self.works:
            return
        now = int(1000 * time.time())
        metric = self._mlflow.entities.Metric
        self._metrics += [metric(name, float(value), now, step) for name, value in metrics.items()]
        # The numbers must not fill the memory if the server is down for hours.
        del self._metrics[:-_KEPT]
        if time.monotonic() >= self._send_at:
            self.send()

    def send(self) -> None:
        """Send the recorded numbers. If the server does not answer, the waits between tries grow."""
        if self.works and self._metrics:
            answered = self._try(self._send)
            self._wait_seconds = SEND_SECONDS if answered else min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)
            self._send_at = time.monotonic() + self._wait_seconds

    def end(self, finished: bool, tags: Mapping[str, str], image_HWC: npt.NDArray[np.uint8] | None = None) -> None:
        """Send the remaining numbers and close the run.

        Args:
            finished: whether the training ran to its end.
            tags: more facts about the run, by name.
            image_HWC: picture of the confusion matrix, uint8, stored as `confusion.png`.
        """
        if not self.works:
            return
        self.send()

        def close() -> None:
            run_id = self._begin()
            if image_HWC is not None:
                self._client.log_image(run_id, image_HWC, "confusion.png")
            for name, value in tags.items():
                self._client.set_tag(run_id, name, value)
            self._client.set_terminated(run_id, "FINISHED" if finished else "KILLED")

        self._try(close)

    def _try(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except (self._mlflow.exceptions.MlflowException, OSError) as error:
            reason = redact(" ".join(str(error).split()))[:200]
            self.problem = f"MLflow at {redact(self._uri)} did not get everything: {reason}"
            return False
        self.problem = None
        return True

    def _begin(self) -> str:
        """Find or create the run once the server answers, and return its id."""
        if self._run_id is not None:
            return self._run_id
        client = self._client = self._mlflow.MlflowClient(tracking_uri=self._uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if found is None else found.experiment_id
        wanted = f"tags.`{KEY_TAG}` = '{self._key}' and attributes.status != 'FINISHED'"
        runs = client.search_runs([experiment], wanted, max_results=1)
        if runs:
            run_id: str = runs[0].info.run_id
            client.update_run(run_id, "RUNNING")
        else:
            tags = {KEY_TAG: self._key, "mlflow.source.name": "mgc train"}
            run_id = client.create_run(experiment, tags=tags, run_name=self._name).info.run_id
            param = self._mlflow.entities.Param
            values = [param(name, str(value)[:_LONGEST_VALUE]) for name, value in self._parameters.items()]
            for start in range(0, len(values), _LARGEST["params"]):
                client.log_batch(run_id, params=values[start : start + _LARGEST["params"]])
        self._run_id = run_id
        return run_id

    def _send(self) -> None:
        run_id = self._begin()
        while self._metrics:
            self._client.log_batch(run_id, metrics=self._metrics[: _LARGEST["metrics"]])
            del self._metrics[: _LARGEST["metrics"]]
