"""Films from words as people ask for them: words in, steps to be seen, a film out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, TimeoutError, expect

from longtake.media import stills
from tests.needs.test_generate import folder_of
from tests.page.test_page import SLOW, audit, ended, start
from tests.page.viewing import faultless, signed_in
from tests.service.running import Served, served

KNOBS = {"size": "64x48", "frames": 9, "steps": 3, "dtype": "float32", "text_dtype": "float32"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With small nets, of which each step takes a second; below a path prefix."""
    weights = tmp_path_factory.mktemp("weights")
    for version in ("t2v-1.3b", "i2v-14b-480p"):
        folder_of(weights, version).rename(weights / f"wan-{version}")
    env = {"LONGTAKE_WEIGHTS": str(weights), "LONGTAKE_FAULT": "slow:compute:99",
           "OMP_NUM_THREADS": "1"}  # fmt: skip
    with served(tmp_path_factory.mktemp("data"), "--prefix", "/films/here", **env) as running:
        yield running


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "cat.png"
    path.write_bytes(stills.png(np.full((60, 80, 3), 120, np.uint8)))
    return path


def asked(service: Served, **more: object) -> str:
    body = {"kind": "generate", "params": {"prompt": "a cat walks", "set": KNOBS}, **more}
    answer: httpx.Response = service.web.post("jobs", json=body)
    assert answer.is_success, answer.text
    return str(answer.json()["id"])


def pick(page: Page, label: str, name: str) -> None:
    """From a list, which is opened again if it was closed by what the page has just learnt."""
    option = page.get_by_role("option", name=name, exact=True)
    for last in (False, False, False, True):
        page.get_by_role("combobox", name=label, exact=True).click()
        try:
            option.click(timeout=10_000 if last else 3000)  # ms
        except TimeoutError:
            if last:
                raise
        else:
            return


def small(page: Page) -> None:
    """Knobs for the small nets; what is typed counts when the field is left."""
    page.get_by_label("Size, px").fill("64x48")
    for label, value in (("Frames", "9"), ("Steps", "3")):
        page.get_by_role("textbox", name=label, exact=True).fill(value)
        page.keyboard.press("Tab")
    page.get_by_role("button", name=re.compile("All settings")).click()
    for label in ("Arithmetic", "Arithmetic of the text encoder"):
        pick(page, label, "float32")


def test_a_person_asks_for_a_film_from_words(page, service) -> None:
    """Words, a plan, steps that are seen to be taken, the film, its frames and all metadata."""
    page.get_by_role("link", name="New job").first.click()
    page.get_by_text("Film from words").click()
    expect(page.get_by_text("Say what the film shows;")).to_be_visible()
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    page.get_by_label("What the film shows").fill("a cat walks\nthrough tall grass")
    page.get_by_label("What it shall not show").fill("blur")
    small(page)
    expect(page.get_by_text("64×48")).to_be_visible()
    name = start(page)
    stages = page.get_by_role("list", name="Stages")
    expect(stages.get_by_test_id("sampling")).to_have_text(re.compile("[12] of 3"), timeout=SLOW)
    expect(stages.locator('[aria-current="step"]')).to_contain_text("Steps")
    ended(page, service, name)
    assert service.job(name)["name"] == "a_cat_walks_through_tall_grass.mp4"
    frames = page.get_by_role("link", name=re.compile("^Frame at"))
    expect(frames).to_have_count(8)
    frames.last.scroll_into_view_if_needed()
    seen = page.locator(".gallery img")
    for at in range(8):
        expect(seen.nth(at)).to_have_js_property("complete", True)
    assert all(seen.evaluate_all("all => all.map(e => e.naturalWidth)"))
    page.get_by_role("button", name="All metadata").click()
    made = service.web.get(f"assets/{service.job(name)['result']}").json()
    expect(page.get_by_text(made["sha256"])).to_be_visible()
    expect(page.get_by_text("through tall grass").first).to_be_visible()
    task = service.job(name)["task"]
    assert (task["kind"], task["negative"], task["set"]["steps"]) == ("generate", "blur", 3)


def test_a_film_that_begins_with_a_picture(page, service, picture) -> None:
    page.goto(f"{service.address}/new?kind=generate")
    page.get_by_label("What the film shows").fill("a cat walks")
    pick(page, "Model", "i2v-14b-480p")
    expect(page.get_by_text("This model begins with a picture")).to_be_visible()
    page.locator('input[type="file"]').set_input_files(picture)
    expect(page.get_by_text("80×60")).to_be_visible()
    small(page)
    name = start(page)
    ended(page, service, name)
    made = service.job(name)
    source = service.web.get(f"assets/{made['asset']}").json()
    assert (source["name"], made["task"]["set"]["model"]) == ("cat.png", "i2v-14b-480p")


def test_what_is_missing_is_said_with_the_command(browser, service) -> None:
    with signed_in(browser, service, locale="en-GB") as inside:
        page = inside.new_page()
        page.goto(f"{service.address}/new?kind=generate")
        page.get_by_label("What the film shows").fill("a cat walks")
        pick(page, "Model", "t2v-14b")
        said = page.get_by_role("alert").filter(has_text="longtake weights pull wan-t2v-14b")
        expect(said).to_be_visible()
        expect(said.get_by_role("link", name="Get the weights")).to_be_visible()


def test_paused_and_resumed_by_keyboard_it_goes_on_from_its_step(page, service) -> None:
    name = asked(service)
    page.goto(f"{service.address}/jobs/{name}")
    stages = page.get_by_role("list", name="Stages")
    expect(stages.get_by_test_id("sampling")).to_have_text(re.compile("[1-3] of 3"), timeout=SLOW)
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile("Paused after step [1-3] of 3"))).to_be_visible(timeout=SLOW)
    page.get_by_role("button", name="Go on").focus()
    page.keyboard.press("Enter")
    ended(page, service, name)


@pytest.fixture(scope="module")
def done(service: Served) -> str:
    name = asked(service, container="mkv")
    service.until(name, "succeeded", seconds=90)
    return name


@pytest.mark.parametrize(("language", "scheme"), [("en-GB", "light"), ("zh-CN", "dark")])
def test_every_screen_is_accessible(
    browser: Browser, service: Served, done: str, language: str, scheme: str
) -> None:
    """axe finds nothing serious, at work and done; on a phone nothing is wider than the window."""
    phone = scheme == "dark"
    window = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 900}
    how = {"locale": language, "color_scheme": scheme, "reduced_motion": "reduce"}
    going = asked(service)
    with signed_in(browser, service, viewport=window, **how) as inside:
        for screen in ("", "new?kind=generate", f"jobs/{going}", f"jobs/{done}"):
            with faultless(inside.new_page()) as page:
                page.goto(f"{service.address}/{screen}")
                expect(page.locator("#content")).to_be_visible()
                page.wait_for_load_state("load")
                if screen.startswith("new"):
                    page.get_by_role("textbox").first.fill("猫在草地上走")
                    page.get_by_role("combobox").nth(1).click()
                    page.get_by_role("option", name="i2v-14b-480p", exact=True).click()
                    page.locator(".mantine-Accordion-control").first.click()
                if screen.endswith(done):
                    page.locator(".mantine-Accordion-control").last.click()
                expect(page.locator(".mantine-Loader-root")).to_have_count(0)
                found = audit(page)
                assert found == [], f"{screen}: {json.dumps(found, indent=1)}"
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= window["width"], f"{screen}: {wide} px wide"
                page.close()
    service.until(going, "succeeded", seconds=90)
