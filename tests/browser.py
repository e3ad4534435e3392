"""A real browser for tests: Debian's Chromium without a window, by Playwright.

While it is open, its event loop runs in this thread: `asyncio.run` fails beside it. So it is opened
for one module of tests at a time.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is no Chromium."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not here")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_ordinary(CHROMIUM, Path(folder)), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


def _ordinary(program: str, folder: Path) -> str:
    """Root's Chromium gives its threads real-time priority: an animation, drawn without a GPU, then
    takes a whole core from the service that it waits for."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        return program
    script = folder / "chromium"
    lowered = f"exec setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice {shlex.quote(program)}"
    script.write_text(f'#!/bin/sh\n{lowered} "$@"\n')
    script.chmod(0o700)
    return str(script)
