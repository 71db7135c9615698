"""Headless Chromium, for tests that look at a page. Debian's package is `chromium`; without it they skip."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The program, or None."""


def open_page(folder: Path, document: str, *options: str) -> tuple[str, str]:
    """Open a document without network, and return what Chromium wrote to stdout and stderr.

    Args:
        folder: for the page and the browser's profile.
        document: HTML.
        options: of Chromium, such as `--dump-dom`.
    """
    file = folder / "page.html"
    file.write_text(document, encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", *options, file.as_uri(),
    ]  # fmt: skip
    # A session of its own, so that a browser that hangs goes with all its processes.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, log = process.communicate(timeout=90)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, log
    return out, log


def take_picture(folder: Path, document: str, size: tuple[int, int], scheme: str = "light") -> Path:
    """Return a PNG file of a page's top, (width, height) in pixels, in the `light` or the `dark` scheme."""
    picture = folder / "page.png"
    # Blink's own numbers: 0 is dark, 1 is light.
    chosen = f"--blink-settings=preferredColorScheme={int(scheme == 'light')}"
    window = f"--window-size={size[0]},{size[1]}"
    open_page(folder, document, window, "--hide-scrollbars", chosen, f"--screenshot={picture}")
    return picture
