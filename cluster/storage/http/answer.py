"""Ask a web server for a file: proxies, redirects, and how long to wait."""

from __future__ import annotations

import queue
import re
import threading
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProxyError, ReadTimeoutError, SSLError

from cluster.storage.redaction import redact
from mgc.errors import StorageError

_MOST_REDIRECTS: Final = 8
_REDIRECTS: Final = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        answer_seconds: longest wait for an answer to a request: for the name, the connections and all redirects.
        stall_seconds: longest wait for more bytes of a file.
        tries: connections in a row that may bring nothing new.
        pause_seconds: pause before the second try; each later one is twice as long, up to eight seconds.
    """

    answer_seconds: float = 20.0
    stall_seconds: float = 30.0
    tries: int = 5
    pause_seconds: float = 1.0


class BrokenError(Exception):
    """The connection broke, so that another one may help. The text is the reason."""


class UnreachedError(BrokenError):
    """There was no connection."""


class Opening:
    """A request whose answer one waits for only so long.

    A thread makes it, because the search for a name takes no time limit.

    Args:
        address: what to ask for.
        headers: headers of the request.
        patience: how long to wait.
    """

    def __init__(self, address: str, headers: Mapping[str, str], patience: Patience) -> None:
        self._address, self._headers, self._patience = address, headers, patience
        self._answers: queue.SimpleQueue[urllib3.BaseHTTPResponse | Exception] = queue.SimpleQueue()
        self._given_up = threading.Event()

    def wait(self) -> urllib3.BaseHTTPResponse:
        """Return the answer, whose body is still to be read."""
        threading.Thread(target=self._ask, daemon=True).start()
        try:
            answer = self._answers.get(timeout=self._patience.answer_seconds)
        except queue.Empty:
            self._given_up.set()
            raise UnreachedError(f"no answer came within {self._patience.answer_seconds:.3g} s") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self) -> None:
        try:
            answer = self._follow()
        except Exception as error:  # noqa: BLE001
            # The thread that waits raises it.
            self._answers.put(error)
            return
        if self._given_up.is_set():
            answer.close()
        self._answers.put(answer)

    def _follow(self) -> urllib3.BaseHTTPResponse:
        """Return the first answer that is no redirect."""
        address, seen = self._address, set[str]()
        while True:
            if address in seen or len(seen) > _MOST_REDIRECTS:
                raise StorageError(f"cannot download {redact(self._address)}: its redirects lead in a circle.")
            seen.add(address)
            answer = self._request(address)
            location = answer.headers.get("Location", "")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            following = urllib.parse.urljoin(address, location)
            allowed = ("https",) if address.startswith("https:") else ("http", "https")
            if urllib.parse.urlsplit(following).scheme not in allowed:
                raise StorageError(
                    f"cannot download {redact(self._address)}: the server sends us to "
                    f"{redact(following)[:200]}, which is no {allowed[0]} address."
                )
            address = following

    def _request(self, address: str) -> urllib3.BaseHTTPResponse:
        host = urllib.parse.urlsplit(address).hostname
        limits = urllib3.Timeout(connect=self._patience.answer_seconds, read=self._patience.stall_seconds)
        try:
            return _pool(address).request(
                "GET", address, headers=self._headers, timeout=limits, retries=False, redirect=False,
                preload_content=False, decode_content=False,
            )  # fmt: skip
        except SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise BrokenError(f"the connection failed ({_short(error)})") from None
            raise StorageError(
                f"cannot download {redact(self._address)}: the connection is not safe ({_short(error)}); SSL_CERT_FILE "
                "names the certificates to trust."
            ) from None
        except ProxyError as error:
            raise UnreachedError(f"the proxy gives no connection ({_short(error)})") from None
        except NewConnectionError as error:
            raise UnreachedError(
                f"{urllib.parse.urlsplit(address).hostname} cannot be reached ({_short(error)})"
            ) from None
        except ReadTimeoutError:
            raise BrokenError(f"no answer came within {self._patience.stall_seconds:.3g} s") from None
        except (HTTPError, OSError) as error:
            raise BrokenError(f"{host} gives no answer ({_short(error)})") from None


def _pool(address: str) -> urllib3.PoolManager:
    """Return a pool of one connection, through the proxy that the environment names for the address."""
    parts = urllib.parse.urlsplit(address)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
        return urllib3.PoolManager(1)
    place = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    user = ":".join(urllib.parse.unquote(part) for part in (place.username, place.password) if part)
    headers = urllib3.make_headers(proxy_basic_auth=user) if user else None
    host = f"[{place.hostname}]" if ":" in (place.hostname or "") else place.hostname
    try:
        return urllib3.ProxyManager(f"{place.scheme}://{host}:{place.port or 80}", 1, proxy_headers=headers)
    except (HTTPError, ValueError):
        raise StorageError(
            f"{redact(proxy)}: this proxy cannot be used; name an http:// proxy in HTTPS_PROXY."
        ) from None


def _short(error: BaseException) -> str:
    """Return the reason in what urllib3 says: its texts begin with objects."""
    text = redact(str(error))
    known = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    return known[1] if known else re.split(r"\): |>: ", text)[-1][:200].rstrip(".")
