"""Small pictures of films over HTTP: the right one, decoded apart, kept, and never a hang."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from longtake.media.thumbnail import picture
from longtake.service import assets, sandbox, stills
from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.routes import assets as asset_routes
from longtake.service.routes import stills as routes
from longtake.service.sandbox import Ended, Rejected, still
from longtake.service.stills import Stills
from tests.media import films, hostile
from tests.service.serving import bearer, made, served, somebody
from tests.service.test_sandbox import HOSTILE, TAKEN_OVER, fast, ran

RATE, FRAMES = 25, 100
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the limits of Linux")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.make(
        tmp_path_factory.mktemp("films") / "holiday.mp4", frames=FRAMES, size=(480, 270),
        b_frames=2, sound=True,
    )  # fmt: skip


class Web:
    """A service with these routes, and somebody who asks."""

    def __init__(self, database: Database, root: Path, client: httpx.Client) -> None:
        self.database, self.client = database, client
        self.blobs = Blobs(root / "data")
        self.stills = Stills(database, self.blobs, patience=0.5)
        self.owner = ""

    def add(self, path: Path) -> str:
        """An asset of a file, as it stands when it was looked at."""
        name = assets.by_path(self.database, self.owner, str(path), [path.parent])
        assets.look(self.database, self.blobs)
        assert self.client.get(f"assets/{name}").json()["state"] == "ready"
        return name

    def ask(self, name: str, **query: Any) -> httpx.Response:
        return self.client.get(f"assets/{name}/thumb", params=query)

    def shown(self, name: str, **query: Any) -> np.ndarray[Any, Any]:
        answer = self.ask(name, **query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/jpeg"
        return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))

    def kept(self) -> list[Path]:
        return sorted(self.blobs.root.glob("assets/*/stills/*"))


@contextmanager
def service(database: Database, root: Path, films: Path) -> Iterator[Web]:
    web = Web(database, root, httpx.Client())
    app = made(
        database,
        asset_routes.router(database, web.blobs, [films]),
        routes.router(web.stills),
    )
    web.owner, header = somebody(database)
    with served(app) as address:
        given = {"base_url": f"{address}/api/v1", "headers": {"Authorization": header}}
        with httpx.Client(**given, timeout=60) as web.client:  # type: ignore[arg-type]
            yield web


@pytest.fixture
def web(database: Database, tmp_path: Path, film: Path) -> Iterator[Web]:
    with service(database, tmp_path, film.parent) as web:
        yield web


# --- pictures ------------------------------------------------------------------------------------


@on_sqlite
def test_it_is_the_frame_of_that_moment_in_that_width(web: Web, film: Path) -> None:
    name, chance = web.add(film), random.Random(3)
    for number in (0, *chance.sample(range(FRAMES), 4), FRAMES - 1):
        width = chance.choice((160, 320, 480))
        small = web.shown(name, t=(number + 0.5) / RATE, width=width)
        assert small.shape == (width * 9 // 16, width, 3)
        assert films.read_counter(small) == number
    assert films.read_counter(web.shown(name)) == FRAMES // 10
    assert web.shown(name, width=640).shape == (270, 480, 3)  # never enlarged
    assert films.read_counter(web.shown(name, t=80_000)) == FRAMES - 1


@linux
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("turned.mp4", {"rotation": 90}),
        ("deep.mkv", {"codec": "ffv1", "pixel_format": "yuv422p10le"}),
        ("-I 'ä'.ts", {"codec": "mpeg2video"}),
        ("still", {"format": "matroska", "codec": "libvpx-vp9"}),
        ("av1.mp4", {"codec": "libsvtav1"}),
    ],
)
def test_the_child_gives_what_is_decoded_here(
    name: str, how: dict[str, Any], tmp_path: Path
) -> None:
    path = films.make(tmp_path / name, **how)
    for at in (None, Fraction(1, 3)):
        assert np.array_equal(still(path, 64, at), picture(path, 64, at))


@on_sqlite
def test_a_picture_is_its_own_still(web: Web, tmp_path: Path) -> None:
    name = web.add(films.png(tmp_path / "one.png", 9, size=(192, 128)))
    assert films.read_counter(web.shown(name, t=3)) == 9


# --- what is kept --------------------------------------------------------------------------------


@on_sqlite
def test_what_was_made_is_kept_and_known_again(
    web: Web, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = web.add(film)
    first = web.ask(name, t=1)
    assert first.headers["cache-control"].startswith("private, max-age=")
    assert (path := web.kept()[0]).read_bytes() == first.content
    assert path.parent.parent == web.blobs.path(f"assets/{name}")
    monkeypatch.setattr(sandbox, "run_limited", None)  # nothing is decoded from here on
    again = web.ask(name, t=1)
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    known = {"If-None-Match": first.headers["etag"]}
    same = web.client.get(f"assets/{name}/thumb?t=1", headers=known)
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == first.headers["etag"]


@on_sqlite
def test_a_film_that_was_changed_has_another_picture(web: Web, tmp_path: Path) -> None:
    path = films.make(tmp_path / "film.mkv", codec="ffv1", size=(192, 128))
    name = web.add(path)
    first = web.ask(name, t=0)
    films.make(path, codec="ffv1", size=(192, 128), picture=lambda i: films.texture((192, 128))(77))
    second = web.ask(name, t=0)
    assert second.headers["etag"] != first.headers["etag"]
    assert films.read_counter(web.shown(name, t=0)) == 77


def test_little_is_kept_and_nothing_of_films_that_are_gone(
    web: Web, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stills, "EACH", 3)
    one, other = web.add(film), web.add(film)
    for second in range(5):
        web.shown(one, t=second / 2, width=64)
    assert len(web.kept()) == 3
    web.shown(other, width=64)
    assert web.stills.sweep() == 0
    assert web.client.delete(f"assets/{one}").status_code == 204
    assert web.ask(one, t=2, width=64).status_code == 404
    assert web.stills.sweep() == 3
    (left,) = web.kept()
    assert left.parent.parent.name == other
    assert not web.blobs.path(f"assets/{one}").exists()
    monkeypatch.setattr(stills, "MOST_BYTES", left.stat().st_size - 1)
    assert web.stills.sweep() == 1
    assert web.kept() == []
    assert film.exists()


@on_sqlite
def test_a_disk_that_is_full_costs_no_picture(
    web: Web, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    name = web.add(film)
    monkeypatch.setattr(web.blobs, "put_atomic", full)
    assert films.read_counter(web.shown(name, t=1)) == RATE
    assert web.kept() == []


# --- who may ask, and for what -------------------------------------------------------------------


@on_sqlite
def test_only_of_one_s_own_films_that_are_ready(web: Web, film: Path, tmp_path: Path) -> None:
    name = web.add(film)
    _, header = somebody(web.database, "grace")
    path = f"assets/{name}/thumb"
    assert web.client.get(path, headers={"Authorization": header}).status_code == 404
    narrow = bearer(web.database, web.owner, "jobs:read")
    assert web.client.get(path, headers={"Authorization": narrow}).status_code == 403
    assert web.client.get(path, headers={"Authorization": ""}).status_code == 401
    fresh = assets.by_path(web.database, web.owner, str(film), [film.parent])
    answer = web.ask(fresh)
    assert (answer.status_code, "probing" in answer.text) == (409, True)
    gone = films.make(tmp_path / "gone.mp4")
    name = web.add(gone)
    gone.unlink()
    assert web.ask(name).status_code == 404


@pytest.mark.parametrize(
    "query",
    [{"t": -1}, {"t": "nan"}, {"t": "inf"}, {"t": 86_401}, {"width": 15}, {"width": 641},
     {"width": "x"}],
)  # fmt: skip
@on_sqlite
def test_bounds_are_said(query: dict[str, Any], web: Web) -> None:
    answer = web.ask("abc", **query)
    assert (answer.status_code, next(iter(query)) in answer.text) == (422, True)


# --- hostile films -------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize(
    ("maker", "codes"),
    [pair for pair in HOSTILE if pair[0] is not fast],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_hostile_file_gives_no_picture(maker: hostile.Maker, codes: str, tmp_path: Path) -> None:
    path = maker(tmp_path)
    start = time.monotonic()
    with pytest.raises(Rejected) as refused:
        still(path, 64, seconds=6)
    assert time.monotonic() - start < 10
    assert refused.value.code in codes.split()
    assert str(tmp_path) not in str(refused.value)
    assert path.name not in refused.value.detail


def damaged(path: Path) -> None:
    """The frames become zeros, the header stays."""
    data = path.read_bytes()
    at = data.find(b"mdat") + 40
    path.write_bytes(data[:at] + bytes(len(data) - at))


def removed_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n")


@linux
@pytest.mark.parametrize("change", [damaged, removed_header, playlist])
@on_sqlite
def test_a_film_that_turns_bad_is_a_problem_and_is_not_tried_again(
    change: Callable[[Path], None], web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = films.make(tmp_path / "film.mp4", frames=50)
    name = web.add(path)
    change(path)
    answer = web.ask(name, t=1)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(tmp_path) not in answer.text
    monkeypatch.setattr(sandbox, "run_limited", None)
    again = web.ask(name, t=1)
    assert (again.status_code, again.json()["detail"]) == (422, answer.json()["detail"])
    assert web.kept() == []


@linux
def test_a_decoder_that_was_taken_over_reaches_nothing(film: Path, tmp_path: Path) -> None:
    victim = hostile.victim(tmp_path)
    (tmp_path / "mine").mkdir()
    own = films.make(tmp_path / "mine" / "content.mp4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        named = {"victim": str(victim), "folder": str(tmp_path), "name": own.name}
        code = TAKEN_OVER.format(**named, parent=os.getpid(), port=server.getsockname()[1])
        code = code.replace("import longtake.media.probe\n", "import longtake.media.thumbnail\n")
        code = code.replace("def probe(path):", "def probe(path, width, at):")
        code = code.replace("longtake.media.probe.probe =", "longtake.media.thumbnail.picture =")
        code = code.replace(f"main([{own.name!r}])", f"main(['still', '64', '', {own.name!r}])")
        assert "probe.probe" not in code
        ended = ran(code, own.parent)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert (ended.code, ended.errors.decode()) == (7, "")


def _said(height: Any, width: Any, pixels: int) -> bytes:
    return json.dumps({"height": height, "width": width}).encode() + b"\n" + bytes(pixels)


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"{}\n",
        bytes(3 * 64 * 36),
        b"[36, 64]\n" + bytes(3 * 64 * 36),
        _said(36, 64, 3 * 64 * 36 - 1),
        _said(36, 64, 3 * 64 * 36 + 1),
        _said(36, 65, 3 * 65 * 36),
        _said(129, 64, 3 * 129 * 64),
        _said(0, 64, 0),
        _said(-36, -64, 3 * 64 * 36),
        _said(36.0, 64, 3 * 64 * 36),
        _said(True, 64, 3 * 64),
        _said("36", 64, 3 * 64 * 36),
        _said(1 << 70, 64, 10),
        b'{"info": {}}\n',
    ],
)
def test_a_picture_that_cannot_be_is_not_believed(
    output: bytes, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = Ended(code=0, output=output, errors=b"", late=False, flooded=False)
    monkeypatch.setattr(sandbox, "run_limited", lambda *given, **named: ended)
    with pytest.raises(Rejected) as refused:
        still(film, 64)
    assert refused.value.code == "crashed"


@linux
def test_time_and_memory_are_bounded(film: Path) -> None:
    with pytest.raises(Rejected) as refused:
        still(film, 64, seconds=0.01)
    assert refused.value.code == "took_too_long"
    with pytest.raises(Rejected) as refused:
        still(film, 64, memory=20 << 20)
    assert refused.value.code in ("too_much_memory", "crashed")


# --- many at once --------------------------------------------------------------------------------


@on_sqlite
def test_two_at_once_and_others_wait_or_come_again(
    web: Web, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they wait, other requests are answered."""
    name, lock, go = web.add(film), threading.Lock(), threading.Event()
    busy: list[int] = [0, 0]

    def slow(*_: object) -> Any:
        with lock:
            busy[0] += 1
            busy[1] = max(busy)
        go.wait(20)
        with lock:
            busy[0] -= 1
        return np.zeros((36, 64, 3), np.uint8)

    monkeypatch.setattr(sandbox, "still", slow)
    with ThreadPoolExecutor(60) as pool:
        asked = [pool.submit(web.ask, name, t=n, width=64) for n in range(60)]
        while busy[0] < 2:
            time.sleep(0.01)
        assert web.client.get(f"assets/{name}").status_code == 200
        until = time.monotonic() + 20
        while (done := sum(future.done() for future in asked)) < 58:
            assert time.monotonic() < until, done
            time.sleep(0.02)
        late = [future.result() for future in asked if future.done()]
        go.set()
        answers = [future.result() for future in asked]
    assert {a.status_code for a in late} == {503}
    assert {a.headers["retry-after"] for a in late} == {"5"}
    assert sorted(a.status_code for a in answers) == [200] * 2 + [503] * 58
    assert busy == [0, 2]


@on_sqlite
def test_the_same_picture_asked_for_at_once_is_decoded_as_often_as_there_are_places(
    web: Web, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, calls = web.add(film), []

    def counted(*given: Any) -> Any:
        calls.append(given)
        time.sleep(0.1)
        return np.zeros((36, 64, 3), np.uint8)

    monkeypatch.setattr(sandbox, "still", counted)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: web.ask(name, t=1, width=64), range(12)))
    assert {a.status_code for a in answers} == {200}
    assert 1 <= len(calls) <= 2
    assert len({a.content for a in answers}) == 1
