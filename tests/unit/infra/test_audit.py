"""`make audit`, against a server on loopback that answers as a database of weaknesses."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra import audit

WEAKNESS = {
    "id": "PYSEC-2026-1",
    "summary": "it listens to strangers",
    "affected": [{"package": {"name": "alpha", "ecosystem": "PyPI"}, "ranges": [], "versions": ["1.0"]}],
}


@contextmanager
def database(weaknesses: list[object]) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"vulns": weaknesses}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def one_package(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.lock"
    file.write_text(f"alpha==1.0 \\\n    --hash=sha256:{'ab' * 32}\n")
    return file


@pytest.mark.parametrize(("weaknesses", "code"), [([], 0), ([WEAKNESS], 1)])
def test_a_weakness_fails(
    weaknesses: list[object], code: int, one_package: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with database(weaknesses) as url:
        assert audit.audit(one_package, ["--vulnerability-service", "osv", "--osv-url", url]) == code
    assert ("PYSEC-2026-1" in capfd.readouterr().out) == bool(code)


def test_no_answer_is_one_line(one_package: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with database([]) as url:
        pass
    assert audit.audit(one_package, ["--vulnerability-service", "osv", "--osv-url", url]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("audit: no answer for every package of requirements.lock: ")
