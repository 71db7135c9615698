"""What a job says if Ray does not start."""

from __future__ import annotations

import pytest

from cluster.session import connect as module
from cluster.session.connect import connect
from mgc.errors import ResourceError


def test_a_machine_that_is_too_busy_to_start_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_too_long(*_: object) -> None:
        # The class and the words of `ray._private.node`.
        raise Exception("The current node timed out during startup. This could happen because the GCS is overloaded.")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Another test of this process may have Ray open for its session.
    monkeypatch.setattr(module.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(module, "_start", take_too_long)
    with pytest.raises(ResourceError) as caught, connect():
        pass
    line = str(caught.value)
    assert line.startswith("Ray did not start on this machine: The current node timed out during startup.")
    assert "run the command again" in line
    assert "RAY_ADDRESS" not in line
    assert "\n" not in line
