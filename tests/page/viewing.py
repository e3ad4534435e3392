"""Windows onto the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Page

from tests.service.running import Served

PATIENCE = 30_000  # ms


@contextmanager
def signed_in(
    browser: Browser, service: Served, port: int | None = None, **how: object
) -> Iterator[BrowserContext]:
    """A browser with the session of the service's own client; `port`: under which it comes."""
    context = browser.new_context(**how)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE)
    host = service.address.split("//")[1].split("/")[0].partition(":")[0]
    for name, value in service.web.cookies.items():
        called = f"longtake_{port}" if port else name
        cookie = {"name": called, "value": str(value), "domain": host, "path": "/"}
        context.add_cookies([cookie])  # type: ignore[list-item]
    try:
        yield context
    finally:
        context.close()


@contextmanager
def faultless(page: Page) -> Iterator[Page]:
    """Nothing is refused by the page's policy, nothing raised, and nothing asked of other hosts."""
    said: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    yield page
    assert said == []
    assert len(hosts) == 1, hosts
