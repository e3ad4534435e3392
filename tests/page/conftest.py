"""The page in a real browser, served by `longtake serve` with one worker for the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import chromium
from tests.media import films
from tests.page.viewing import faultless, signed_in
from tests.service.running import Served, served

BUILT = Path(__file__).resolve().parents[2] / "src" / "longtake" / "service" / "page"


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    if not (BUILT / "index.html").exists():
        pytest.skip("the page is not built")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    return films.make(folder / "holiday.mp4", frames=120, size=(160, 90), sound=True)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, film: Path) -> Iterator[Served]:
    data = tmp_path_factory.mktemp("data")
    with served(data, "--prefix", "/films/here", LONGTAKE_ROOTS=str(film.parent)) as running:
        yield running


@pytest.fixture
def page(browser: Browser, service: Served) -> Iterator[Page]:
    """Signed in, in English, on a desk."""
    window = {"width": 1280, "height": 900}
    with (
        signed_in(browser, service, locale="en-GB", viewport=window) as inside,
        faultless(inside.new_page()) as page,
    ):
        page.goto(f"{service.address}/")
        yield page
