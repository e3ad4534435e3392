"""The page as people use it: a film in, a film out, by mouse, by key, on a phone, in Chinese."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.media import films
from tests.page.viewing import faultless, signed_in
from tests.page.wire import wire
from tests.service.running import Served, served, sha, until

AXE = Path(__file__).resolve().parents[2] / "page" / "node_modules" / "axe-core" / "axe.min.js"
SLOW = 180_000  # ms; a job on a busy machine


def start(page: Page) -> str:
    """Press Start; returns the job's id once its screen is there."""
    button = page.get_by_role("button", name="Start", exact=True)
    expect(button).to_be_enabled()
    button.click()
    page.wait_for_url(re.compile(r"/jobs/\w+$"))
    return page.url.rpartition("/")[2]


def ended(page: Page, service: Served, name: str) -> None:
    """The job has succeeded, and its screen says so by itself."""
    service.until(name, "succeeded", seconds=SLOW / 1000)
    expect(page.get_by_role("link", name="Download").first).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)


def test_a_person_upscales_a_film_that_is_dropped(page, service, film, tmp_path) -> None:
    """Upload, look, plan, run, download: the same bytes as by hand. Below a path prefix."""
    page.get_by_role("link", name="New job").first.click()
    page.locator('input[type="file"]').set_input_files(film)
    expect(page.get_by_text("160 × 90").or_(page.get_by_text("160×90")).first).to_be_visible()
    expect(page.get_by_text("What it takes")).to_be_visible()
    expect(page.get_by_text("320 × 180").or_(page.get_by_text("320×180")).first).to_be_visible()
    name = start(page)
    ended(page, service, name)
    with page.expect_download() as found:
        page.get_by_role("link", name="Download").first.click()
    got = tmp_path / found.value.suggested_filename
    found.value.save_as(got)
    made = service.job(name)
    task = made["task"]
    by_hand = tmp_path / "hand.mp4"
    subprocess.run(
        [sys.executable, "-m", "longtake", "upscale", film, by_hand, "--devices", "cpu",
         "--engine", task["engine"], "--scale", "2", "--json"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert got.name == "holiday_large.mp4"
    assert hashlib.sha256(got.read_bytes()).hexdigest() == sha(by_hand)


def test_by_keyboard_alone(page, service, film) -> None:
    """From the queue to a running job: a path of the server, found and started without a mouse."""

    def to(name: str, role: str = "button", inside: str = "body") -> None:
        wanted = page.locator(inside).get_by_role(role, name=name).first  # type: ignore[arg-type]
        expect(wanted).to_be_visible()
        for _ in range(80):
            page.keyboard.press("Tab")
            if wanted.evaluate("e => e === document.activeElement"):
                return
        raise AssertionError(f"{name} cannot be reached by Tab")

    to("New job", "link")
    page.keyboard.press("Enter")
    to("Choose from the server")
    page.keyboard.press("Enter")
    to(film.parent.name, inside='[role="dialog"]')
    page.keyboard.press("Enter")
    to("holiday.mp4", inside='[role="dialog"]')
    page.keyboard.press("Enter")
    expect(page.get_by_text("What it takes")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    to("Start")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/jobs/\w+$"))
    ended(page, service, page.url.rpartition("/")[2])


def test_a_worker_that_dies_is_seen_to_be_replaced(page, service, tmp_path_factory) -> None:
    """Without a reload: the segment is made again, and the log says so."""
    folder = tmp_path_factory.mktemp("long")
    long = films.make(folder / "long.mp4", frames=720, size=(320, 180))
    page.get_by_role("link", name="New job").first.click()
    page.locator('input[type="file"]').set_input_files(long)
    page.get_by_role("radio", name=re.compile("resize")).check()
    expect(page.get_by_text("What it takes")).to_be_visible()
    name = start(page)
    page.evaluate("window.untouched = true")
    for _ in range(600):
        if service.job(name)["progress"]["frames"] > 60:
            break
        page.wait_for_timeout(100)
    until(service.kill_workers)
    expect(page.get_by_text(re.compile("2nd attempt|lost|died")).first).to_be_visible(timeout=SLOW)
    ended(page, service, name)
    assert page.evaluate("window.untouched") is True
    tries = service.web.get(f"jobs/{name}/attempts").json()["attempts"]
    assert "lost" in {one["outcome"] for one in tries}


def test_an_upload_goes_on_after_the_tab_was_closed(browser, service, tmp_path) -> None:
    """tus-js-client finds the upload again by the file that is dropped once more."""
    film = films.make(tmp_path / "again.mp4", frames=600, size=(640, 360))
    size, begun = film.stat().st_size, []
    real = urlsplit(service.address)
    with wire(real.port) as slow, signed_in(browser, service, slow.port, locale="en-GB") as inside:
        address = f"http://127.0.0.1:{slow.port}{real.path}"
        first = inside.new_page()
        first.goto(f"{address}/new")
        slow.rate = size / 10
        with first.expect_request(lambda request: request.method == "PATCH"):
            first.locator('input[type="file"]').set_input_files(film)
        first.wait_for_timeout(4000)
        first.close()
        slow.cut()
        slow.rate = None
        with faultless(inside.new_page()) as second:
            second.on("request", lambda request: begun.append(offset(request)))
            second.goto(f"{address}/new")
            second.locator('input[type="file"]').set_input_files(film)
            expect(second.get_by_text("What it takes")).to_be_visible(timeout=SLOW)
    assert size // 10 < max(begun) < size, "the second tab did not go on where the first was cut"
    found = service.web.get("assets").raise_for_status().json()["assets"]
    (asset,) = [one for one in found if one["name"] == film.name]
    content = service.web.get(f"assets/{asset['id']}/content").content
    assert hashlib.sha256(content).hexdigest() == sha(film)


def offset(request: Request) -> int:
    """Where a piece of an upload begins; -1 for other requests."""
    return int(request.headers["upload-offset"]) if request.method == "PATCH" else -1


def test_the_printed_address_signs_in_once(browser, tmp_path) -> None:
    with served(tmp_path / "data", "--workers", "none", sign_in=False) as running:
        context = browser.new_context(locale="en-GB")
        page = context.new_page()
        page.goto(running.page)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert "token" not in page.url
        expect(page.get_by_role("navigation").first).to_be_visible()
        page.reload()  # the session stays
        expect(page.get_by_role("navigation").first).to_be_visible()
        other = browser.new_context(locale="en-GB").new_page()
        other.goto(running.page)
        expect(other.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        context.close()


SCREENS = ["", "new", "new?asset={asset}", "jobs/{job}", "weights", "system", "nowhere"]


@pytest.fixture(scope="module")
def made(service: Served, film: Path) -> dict[str, str]:
    """An asset and a job that is done, to look at."""
    asset = service.web.post("assets", json={"path": str(film)}).raise_for_status().json()["id"]
    assert service.ready(asset)["state"] == "ready"
    body = {"asset": asset, "params": {"engine": "resize", "scale": 2}}
    job = service.web.post("jobs", json=body).raise_for_status().json()["id"]
    service.until(job, "succeeded", seconds=90)
    return {"asset": asset, "job": job}


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_screen_is_accessible(browser, service, made, language, scheme) -> None:
    """axe finds nothing serious; on a phone nothing is wider than the window."""
    how = {"locale": language, "color_scheme": scheme, "reduced_motion": "reduce"}
    phone = scheme == "dark"
    window = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
    with signed_in(browser, service, viewport=window, **how) as inside:
        for screen in SCREENS:
            with faultless(inside.new_page()) as page:
                page.goto(f"{service.address}/{screen.format(**made)}")
                expect(page.locator("#content")).to_be_visible()
                page.wait_for_load_state("load")
                expect(page.locator(".mantine-Loader-root")).to_have_count(0)
                found = audit(page)
                assert found == [], f"{screen}: {json.dumps(found, indent=1)}"
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= window["width"], f"{screen}: {wide} px wide"
                assert page.locator("html").get_attribute("lang") == language[:2]
                page.close()


def audit(page: Page) -> list[dict[str, object]]:
    """What axe calls serious or critical. Evaluated from outside: the page's policy stays."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        {"rule": one["id"], "help": one["help"], "where": [n["html"] for n in one["nodes"]][:3]}
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_language_and_colours_are_kept(browser: Browser, service: Served) -> None:
    with signed_in(browser, service, locale="en-GB", color_scheme="light") as inside:
        page = inside.new_page()
        page.goto(f"{service.address}/")
        page.get_by_role("button", name="Language").click()
        page.get_by_role("menuitem", name="中文").click()
        expect(page.get_by_role("link", name="队列").first).to_be_visible()
        page.get_by_role("button", name="配色").click()
        page.get_by_role("menuitem", name="深色").click()
        page.reload()
        expect(page.get_by_role("link", name="队列").first).to_be_visible()
        assert page.locator("html").get_attribute("data-mantine-color-scheme") == "dark"
