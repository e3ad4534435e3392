"""The page of `compare` and `preview`: whole by itself, well formed, and its slider moves."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from longtake.media.stills import embedded
from longtake.runtime.report import Moment, Plot, Report, Rows, stamp
from tests.browser import chromium

VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """Elements in order, with their attributes; unclosed ones are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    grey = embedded(np.full((40, 64, 3), 90, np.uint8))
    views = ["source, Lanczos", "A&B <lite>", "third"]
    moments = [
        Moment(name=f"frame {n}", about=f"PSNR of {n}", pictures=[grey] * 3) for n in range(3)
    ]
    curve = [(30.0 + i % 7, 35.0, 40.0) for i in range(50)]
    return Report(
        title='odd </script><b> & "name".mp4',
        notes=["a note with <tags> & more"],
        tables=[Rows(caption="figures", rows=[("", "A"), ("PSNR", "40 <dB>")])],
        plots=[
            Plot(caption="PSNR", unit="dB", curve=curve, seconds=(0.0, 3700.0)),
            Plot(caption="one", unit="", curve=[(1.0, 1.0, 1.0)], seconds=(0.0, 0.0)),
            Plot(caption="none", unit="", curve=[], seconds=(0.0, 0.0)),
        ],
        views=views,
        moments=moments,
        first=1,
        videos=[("Beside each other", "side.mp4")],
    ).html()


def test_it_is_well_formed_and_escapes_what_it_is_given(page) -> None:
    found = Page(page)
    assert found.texts["h1"] == 'odd </script><b> & "name".mp4'
    assert len(found.of("h1")) == 1
    assert not found.of("b")
    assert page.count("</script>") == 2
    assert "$" not in page
    for svg in page.split("<svg")[1:]:
        drawn = ElementTree.fromstring("<svg" + svg.split("</svg>")[0] + "</svg>")
        assert drawn.attrib["role"] == "img"
        assert drawn.findall("polyline")
    assert page.count("<svg") == 2


def test_it_needs_no_network_and_no_other_file(page) -> None:
    found = Page(page)
    for tag, attributes in found.found:
        for name in ("src", "href"):
            where = attributes.get(name) or ""
            assert where == "" or (tag in ("video", "a") and where == "side.mp4"), (tag, where)
    assert "http" not in page.replace("http-equiv", "")
    assert "@import" not in page
    assert "url(" not in page


def test_the_stills_are_in_it(page) -> None:
    data = json.loads(Page(page).texts["script"].split("\n")[0])
    assert data["views"] == ["source, Lanczos", "A&B <lite>", "third"]
    assert data["first"] == 1
    for still in data["stills"]:
        for picture in still["pictures"]:
            kind, _, body = picture.partition(",")
            assert kind == "data:image/webp;base64"
            assert base64.b64decode(body)[8:12] == b"WEBP"


def test_controls_have_names_and_the_language_is_stated(page) -> None:
    found = Page(page)
    assert found.of("html") == [{"lang": "en"}]
    assert {m.get("name") for m in found.of("meta")} >= {"viewport"}
    for tag in ("select", "input"):  # each stands inside its label
        for attributes in found.of(tag):
            at = page.index(f'id="{attributes["id"]}"')
            assert page.rfind("<label>", 0, at) > page.rfind("</label>", 0, at)
    assert all("scope" in cell for cell in found.of("th"))
    assert "prefers-color-scheme: dark" in page


SEEN = """
(async () => {
  const [above, below] = ["above", "below"].map((id) => document.getElementById(id));
  await Promise.all([above.decode(), below.decode()]);
  const word = (id) => document.getElementById(id).textContent;
  const stage = above.parentElement.getBoundingClientRect();
  const bar = document.getElementById("bar").getBoundingClientRect();
  return { clip: getComputedStyle(above).clipPath, bar: (bar.x + 1 - stage.x) / stage.width,
    left: word("leftname"), right: word("rightname"), about: word("about"),
    shown: above.naturalWidth, stage: stage.toJSON(),
    width: document.documentElement.scrollWidth, tall: innerHeight };
})()
"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desk", "phone"])
def view(browser, page, tmp_path, request):
    """The page in a window; it raises no error and asks for nothing outside its folder."""
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    width, height = request.param
    view = browser.new_page(viewport={"width": width, "height": height})
    asked, errors = [], []
    view.on("request", lambda request: asked.append(request.url))
    view.on("pageerror", lambda error: errors.append(error))
    view.goto((tmp_path / "report.html").as_uri())
    yield view
    asked = [address for address in asked if not address.startswith("data:")]
    assert set(asked) == {(tmp_path / n).as_uri() for n in ("report.html", "side.mp4")}
    assert errors == []
    view.close()


def test_the_slider_moves_in_a_browser(view) -> None:
    """By mouse, by key and by choice; the page fits the window."""

    def edge() -> float:
        found = view.evaluate(SEEN)
        right = float(found["clip"].split()[1].rstrip("%"))
        assert found["bar"] == pytest.approx(1 - right / 100, abs=0.01)
        return 100 - right

    def drag(*shares: float) -> None:
        """Press the mouse at the first share of the stage's width, let go at the last."""
        stage = view.evaluate(SEEN)["stage"]
        for i, share in enumerate(shares):
            view.mouse.move(stage["x"] + share * stage["width"], stage["y"] + 20)
            if i == 0:
                view.mouse.down()
        view.mouse.up()

    found = view.evaluate(SEEN)
    assert (found["left"], found["right"]) == ("source, Lanczos", "A&B <lite>")
    assert (found["about"], found["shown"]) == ("PSNR of 1", 64)
    assert found["width"] == view.viewport_size["width"]
    assert found["stage"]["height"] <= 0.86 * found["tall"]
    assert edge() == 50
    view.locator("#stage").scroll_into_view_if_needed()
    drag(0.5, 0.25)
    assert edge() == pytest.approx(25, abs=0.5)
    drag(0.25, 0.8, 3)
    assert edge() == 100
    view.locator("#edge").focus()
    for _ in range(4):
        view.keyboard.press("ArrowLeft")
    assert edge() == 98
    view.locator("#swap").click()
    found = view.evaluate(SEEN)
    assert (found["left"], found["right"]) == ("A&B <lite>", "source, Lanczos")
    for name in ("still", "left"):
        view.locator(f"#{name}").select_option("2")
    found = view.evaluate(SEEN)
    assert (found["left"], found["about"]) == ("third", "PSNR of 2")
    view.locator("#zoom").click()
    assert view.evaluate(SEEN)["stage"]["width"] == 64  # one for one


def test_times_are_written_as_people_read_them() -> None:
    assert stamp(0) == "0:00.000"
    assert stamp(61.5) == "1:01.500"
    assert stamp(3600 + 62.25) == "1:01:02.250"
    assert stamp(-1.5) == "-0:01.500"
    assert stamp(59.9996) == "1:00.000"
