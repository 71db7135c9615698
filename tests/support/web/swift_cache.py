"""What Swift's proxy asks of memcached, kept in the proxy's own process.

Without a cache, the proxy asks for the account and the bucket again with every request, which is more work than the
request itself. There is one proxy, through which everything goes, so that what it keeps is never old.
"""

from __future__ import annotations

import json
import time as clock
from collections.abc import Callable, Iterable
from typing import Any

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


class ProcessCache:
    """The part of `swift.common.memcached.MemcacheRing` that the proxy uses. Values are JSON there too."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[str, float]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        """The value, or None if there is none or its time is over."""
        value, until = self._entries.get(key, ("null", 0.0))
        return json.loads(value) if clock.monotonic() < until else None

    def set(self, key: str, value: Any, time: float = 0, raise_on_error: bool = False) -> None:
        """Keep a value for so many seconds; 0 is for ever."""
        self._entries[key] = json.dumps(value), clock.monotonic() + time if time else float("inf")

    def delete(self, key: str) -> None:
        """Forget a value."""
        self._entries.pop(key, None)


def filter_factory(global_conf: dict[str, str], **local_conf: str) -> Callable[[App], App]:
    """Make the filter, as Paste Deploy asks for it."""
    cache = ProcessCache()

    def with_cache(app: App) -> App:
        def answer(env: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            env["swift.cache"] = cache
            return app(env, start_response)

        return answer

    return with_cache
