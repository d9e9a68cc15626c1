"""Chromium for the browser tests: a fresh profile, no request leaves the machine, auto-annotation switched on."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, sync_playwright

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# The driver matches this, not Python, so that local requests go on while a test sleeps.
_NOT_THIS_MACHINE = re.compile(r"^(?!(https?|wss?)://(127\.0\.0\.1|localhost)[:/]|data:|blob:)")
_SWITCHES_JS = """
localStorage.setItem('autoAnnotation', 'true');
localStorage.setItem('autoAcceptSuggestions', 'true');
"""
_VIEWPORT: ViewportSize = {"width": 1400, "height": 900}


def chromium_path() -> str:
    """Where Chromium is.

    Raises:
        FileNotFoundError: there is none.
    """
    for program in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(program):
            return found
    raise FileNotFoundError("the browser tests need Chromium: install Debian's package `chromium`")


@contextmanager
def open_page() -> Iterator[Page]:
    """A page in a browser of its own; both are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ivos-chromium-") as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            Path(profile), executable_path=chromium_path(), headless=True, args=list(_FLAGS), viewport=_VIEWPORT
        )
        try:
            context.route(_NOT_THIS_MACHINE, lambda route: route.abort())
            context.add_init_script(_SWITCHES_JS)
            page = context.pages[0]
            page.set_default_timeout(60_000)
            yield page
        finally:
            context.close()
