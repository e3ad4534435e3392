"""Makes the pictures of the page in docs/: a real service, a real job, Chromium.

PYTHONPATH=. .venv/bin/python page/screenshots.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.browser import chromium
from tests.needs.test_generate import folder_of
from tests.page.viewing import signed_in
from tests.service.running import Served, served

DOCS = Path(__file__).resolve().parent.parent / "docs"
DESK = {"width": 1180, "height": 900}
PHONE = {"width": 390, "height": 844}
CLIP = {"x": 0, "y": 0, "width": 1180}
PARAMS = {"engine": "lite", "scale": 4, "set": {"segment_frames": 8}}
WORDS = "A cat walks through tall grass at dusk. Slow camera, soft light."


def new_job(browser: Browser, service: Served, asset: str) -> None:
    with signed_in(browser, service, locale="en-GB", viewport=DESK) as inside:
        page = inside.new_page()
        page.goto(f"{service.address}/new?asset={asset}")
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
        page.wait_for_timeout(1500)
        page.screenshot(path=DOCS / "page_new.png")


def at_work(browser: Browser, service: Served, asset: str) -> None:
    body = {"asset": asset, "params": PARAMS}
    job = service.web.post("jobs", json=body).raise_for_status().json()["id"]
    phone = {"locale": "zh-CN", "color_scheme": "dark", "device_scale_factor": 2}
    with (
        signed_in(browser, service, locale="en-GB", viewport=DESK) as desk,
        signed_in(browser, service, viewport=PHONE, **phone) as hand,
    ):
        large, small = desk.new_page(), hand.new_page()
        for page in (large, small):
            page.goto(f"{service.address}/jobs/{job}")
        half(service, job, large)
        large.screenshot(path=DOCS / "page_job.png")
        small.screenshot(path=DOCS / "page_phone.png")


def half(service: Served, job: str, page: Page) -> None:
    while True:
        progress = service.job(job)["progress"]
        if progress["of"] and progress["frames"] > progress["of"] / 2:
            break
        page.wait_for_timeout(50)
    page.wait_for_timeout(600)


def from_words(browser: Browser, service: Served) -> None:
    """The form, and a film at its steps. Nets are the tests' small ones: their figures are, too."""
    with signed_in(browser, service, locale="en-GB", viewport=DESK) as desk:
        page = desk.new_page()
        page.goto(f"{service.address}/new?kind=generate")
        page.get_by_label("What the film shows").fill(WORDS)
        page.get_by_label("Size, px").fill("64x48")
        for label, value in (("Frames", "17"), ("Steps", "12")):
            page.get_by_role("textbox", name=label, exact=True).fill(value)
            page.keyboard.press("Tab")
        start = page.get_by_role("button", name="Start", exact=True)
        expect(start).to_be_enabled()
        page.wait_for_timeout(1500)
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        page.wait_for_timeout(300)
        page.screenshot(path=DOCS / "page_words.png")
        start.click()
        page.wait_for_url("**/jobs/*")
        expect(page.get_by_test_id("sampling")).to_have_text("7 of 12", timeout=60_000)
        page.wait_for_timeout(400)
        page.screenshot(path=DOCS / "page_steps.png", clip={**CLIP, "height": 420})


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as data,
        served(Path(data) / "data") as service,
        chromium() as browser,
    ):
        asset = service.web.post("assets/example").raise_for_status().json()["id"]
        service.ready(asset)
        new_job(browser, service, asset)
        at_work(browser, service, asset)
    with tempfile.TemporaryDirectory() as weights, tempfile.TemporaryDirectory() as data:
        folder_of(Path(weights), "t2v-1.3b").rename(Path(weights) / "wan-t2v-1.3b")
        env = {"LONGTAKE_WEIGHTS": weights, "LONGTAKE_FAULT": "slow:compute:99"}
        with served(Path(data) / "data", **env) as service, chromium() as browser:
            from_words(browser, service)


if __name__ == "__main__":
    main()
