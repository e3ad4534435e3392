"""Files of strangers: refused quickly, in a child that can reach nothing and is stopped in time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from longtake.core.plain import to_plain
from longtake.media import guard
from longtake.media.probe import probe
from longtake.service import sandbox
from longtake.service.sandbox import Ended, Limits, Rejected, probed, run_limited
from tests.media import films, hostile
from tests.service.running import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the limits of Linux")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A good film in a private folder, beside the folder of somebody else."""
    (tmp_path / "mine").mkdir()
    return films.make(tmp_path / "mine" / "content.mp4", sound=True, chapters=2, rotation=90)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where no connection may arrive."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


def ran(code: str, folder: Path, **limits: Any) -> Ended:
    """How a hostile program ended."""
    return run_limited([sys.executable, "-I", "-c", code], Limits(**limits), folder=folder)


# --- good films ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("content.mp4", {"sound": True, "chapters": 2, "rotation": 90}),
        ("-I 'ä'.mkv", {"codec": "ffv1", "pixel_format": "yuv422p10le"}),
        ("content", {"format": "mpegts", "codec": "mpeg2video", "rate": Fraction(30000, 1001)}),
    ],
)
def test_the_description_is_that_of_probe(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    path = films.make(tmp_path / name, **how)
    assert probed(path) == probe(path)


def test_a_picture_is_described(tmp_path: Path) -> None:
    assert probed(films.png(tmp_path / "content")) == probe(tmp_path / "content")


# --- hostile files (gate 20) ---------------------------------------------------------------------


def archive(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "film.mp4", "w") as target:
        target.write(hostile.victim(folder), "victim.mp4")
    return folder / "film.mp4"


def endless(folder: Path) -> Path:
    """A transport stream of 4 GB in which nothing is ever sent: null packets, then a hole."""
    path = folder / "endless.ts"
    with path.open("wb") as file:
        file.write((b"\x47\x1f\xff\x10" + bytes(184)) * 100_000)
        file.truncate(4 << 30)
    return path


def hundred_thousand(folder: Path) -> Path:
    path = hostile.huge_frames(folder)
    path.write_bytes(path.read_bytes().replace(b"200000", b"100000"))
    return path


def local_playlist(folder: Path) -> Path:
    lines = f"#EXTM3U\n#EXTINF:1,\nfile://{hostile.victim(folder)}\n#EXT-X-ENDLIST\n"
    (folder / "content").write_text(lines)
    return folder / "content"


def fast(folder: Path) -> Path:
    """A rate that a film may have, but not one of a stranger."""
    return films.make(folder / "fast.mkv", rate=500, frames=5)


HOSTILE: list[tuple[hostile.Maker, str]] = [
    (hostile.empty, "unreadable"),
    (hostile.missing, "unreadable"),
    (hostile.concat, "not_allowed"),
    (hostile.concat_absolute, "not_allowed"),
    (hostile.concat_hidden, "unreadable"),
    (local_playlist, "not_allowed"),
    (hostile.manifest, "not_allowed"),
    (hostile.outside_reference, "unreadable"),
    (hostile.forbidden_codec, "not_allowed"),
    (hostile.encrypted, "not_allowed"),
    (hostile.headless, "unreadable"),
    (hostile.only_header, "unreadable"),
    (hostile.sample_bomb, "too_large"),
    (hostile.many_streams, "too_large"),
    (hostile.huge_bmp, "too_large"),
    (hundred_thousand, "too_large unreadable"),
    (fast, "too_large"),
    (endless, "unreadable took_too_long"),
    (hostile.pipe, "unreadable"),
    (hostile.circular_matroska, "unreadable"),
    (archive, "unreadable"),
]


@pytest.mark.parametrize(("maker", "codes"), HOSTILE, ids=lambda v: getattr(v, "__name__", ""))
def test_a_hostile_file_is_rejected(maker: hostile.Maker, codes: str, tmp_path: Path) -> None:
    path = maker(tmp_path)
    start = time.monotonic()
    with pytest.raises(Rejected) as refused:
        probed(path, seconds=6)
    assert time.monotonic() - start < 10
    assert refused.value.code in codes.split()
    assert str(tmp_path) not in str(refused.value)
    assert path.name not in refused.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n",
        "# x\n#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
        "<MPD><Period><BaseURL>http://127.0.0.1:{port}/</BaseURL></Period></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {port} TCP/AVP 96\n",
        "ffconcat version 1.0\nfile tcp://127.0.0.1:{port}\n",
    ],
)
@pytest.mark.parametrize("name", ["content", "content.m3u8", "tcp:127.0.0.1"])
def test_no_file_makes_a_connection(
    text: str, name: str, tmp_path: Path, listener: socket.socket
) -> None:
    path = tmp_path / name
    path.write_text(text.format(port=listener.getsockname()[1]))
    with pytest.raises(Rejected):
        probed(path)


# --- a decoder that was taken over ---------------------------------------------------------------

TAKEN_OVER = """
import os, signal, socket, sys
import longtake.media.probe
from longtake.service import _limited

def attempts():
    yield "another's file", lambda: open({victim!r}).read()
    yield "its folder", lambda: os.listdir({folder!r})
    yield "the system's files", lambda: open("/etc/passwd").read()
    yield "the parent's environment", lambda: open("/proc/{parent}/environ").read()
    yield "the parent's memory", lambda: open("/proc/{parent}/mem", "rb+")
    yield "a new file", lambda: open("new", "w")
    yield "emptying its file", lambda: os.truncate({name!r}, 0)
    yield "removing its file", lambda: os.unlink({name!r})
    yield "a connection", lambda: socket.create_connection(("127.0.0.1", {port}))
    yield "a signal", lambda: os.kill({parent}, signal.SIGTERM)
    yield "a signal to all", lambda: os.kill(-1, signal.SIGTERM)
    yield "a process", os.fork
    yield "a program", lambda: os.execv(sys.executable, [sys.executable, "-V"])
    yield "a session", os.setsid

def probe(path):
    assert open(path, "rb").read(4)
    for what, attempt in attempts():
        try:
            attempt()
        except OSError:
            continue
        sys.stderr.write(what + "\\n")
    os._exit(7)

longtake.media.probe.probe = probe
_limited.main([{name!r}])
"""


def test_a_decoder_that_was_taken_over_reaches_nothing(film: Path, listener: socket.socket) -> None:
    victim, port = hostile.victim(film.parent.parent), listener.getsockname()[1]
    named = {"victim": str(victim), "folder": str(victim.parent), "name": film.name}
    code = TAKEN_OVER.format(**named, parent=os.getpid(), port=port)
    ended = ran(code, film.parent)
    assert (ended.code, ended.errors.decode()) == (7, "")
    assert film.stat().st_size > 1000


def _with(info: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"info": info | fields}).encode()


LIES: list[Callable[[dict[str, Any]], bytes]] = [
    lambda info: b"",
    lambda info: b"[" * 100_000,
    lambda info: b'{"info": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    lambda info: b'{"info": 1} {"info": 2}',
    lambda info: b'{"info": null}',
    lambda info: b'{"refused": [[1]]}',
    lambda info: _with(info, rate="1e999999999"),
    lambda info: _with(info, rate="9" * 100_000 + "/1"),
    lambda info: _with(info, rate="0/1"),
    lambda info: _with(info, sar="-1/1"),
    lambda info: _with(info, time_base="1/0"),
    lambda info: _with(info, duration=1.5),
    lambda info: _with(info, width=0),
    lambda info: _with(info, frames=-1),
    lambda info: _with(info, size=1 << 80),
    lambda info: _with(info, bits=1 << 20),
    lambda info: _with(info, chroma="421"),
    lambda info: _with(info, exact=True),
    lambda info: _with(info, command="rm"),
    lambda info: _with(info, tracks=info["tracks"] * guard.MAX_STREAMS),
    lambda info: _with(info, color=info["color"] | {"matrix": 1000}),
]
TOO_LARGE: list[dict[str, Any]] = [
    {"width": 16385},
    {"width": 16384, "height": 16385},
    {"rate": "241/1"},
    {"duration": f"{24 * 3600 + 1}/1"},
    {"frames": 24 * 3600 * 240 + 1},
]


def answering(monkeypatch: pytest.MonkeyPatch, output: bytes) -> None:
    """From here on every child says this."""
    ended = Ended(code=0, output=output, errors=b"", late=False, flooded=False)
    monkeypatch.setattr(sandbox, "run_limited", lambda *given, **named: ended)


@pytest.mark.parametrize("lie", LIES)
def test_a_description_that_cannot_be_is_not_believed(
    lie: Callable[[dict[str, Any]], bytes], film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, lie(to_plain(probe(film))))
    with pytest.raises(Rejected) as refused:
        probed(film)
    assert refused.value.code == "crashed"


@pytest.mark.parametrize("fields", TOO_LARGE)
def test_bounds_are_held_outside_the_child_too(
    fields: dict[str, Any], film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, _with(to_plain(probe(film)), **fields))
    with pytest.raises(Rejected) as refused:
        probed(film)
    assert refused.value.code == "too_large"


def test_texts_are_made_fit_for_a_database(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = probe(film)
    odd = _with(to_plain(good), codec="h\x00264\ud800", notes=["x" * 5000], path="/etc/passwd")
    answering(monkeypatch, odd)
    assert probed(film) == replace(good, codec="h264?", notes=("x" * 1000,))


# --- limits (gate 25) ----------------------------------------------------------------------------


def test_a_loop_is_stopped_and_so_is_one_that_forks(tmp_path: Path) -> None:
    bomb = """
import os
while True:
    try:
        os.fork()
        os.write(1, b"forked")
    except OSError:
        pass
"""
    for code in ("while True: pass", "import time\ntime.sleep(60)", bomb):
        start = time.monotonic()
        ended = ran(code, tmp_path, seconds=1)
        assert ended.late
        assert ended.output == b""
        assert time.monotonic() - start < 4


def test_memory_is_bounded(tmp_path: Path) -> None:
    hungry = "held = []\nwhile True: held.append(bytearray(100 << 20))"
    for code in ("bytearray(10 << 30)", hungry):
        ended = ran(code, tmp_path, memory=512 << 20)
        assert ended.code == 1
        assert b"MemoryError" in ended.errors


def test_nothing_is_written(tmp_path: Path) -> None:
    code = "with open('big', 'wb', 0) as f:\n for n in range(1024): f.write(bytes(1 << 20))"
    ended = ran(code, tmp_path)
    assert ended.code == 1
    assert b"File too large" in ended.errors
    assert (tmp_path / "big").stat().st_size == 0


def test_one_who_says_too_much_is_stopped(tmp_path: Path) -> None:
    for stream in ("stdout", "stderr"):
        ended = ran(f"import sys\nwhile True: sys.{stream}.write('x' * 999)", tmp_path, output=5000)
        assert ended.flooded
        assert len(ended.output + ended.errors) == 5000


def test_threads_only_where_they_are_allowed(tmp_path: Path) -> None:
    code = "import os, threading\nthreading.Thread(target=print, args=['ran']).start()\n"
    assert ran(code, tmp_path).output == b""
    ended = ran(code + "os.fork()", tmp_path, threads=True)
    assert ended.output == b"ran\n"
    assert b"PermissionError" in ended.errors


def test_the_child_inherits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGTAKE_DATABASE_URL", "secret")
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        code = """
import json, os, sys
print(json.dumps([dict(os.environ), sorted(os.listdir("/proc/self/fd")), sys.stdin.read(),
                  os.getcwd(), os.getsid(0) == os.getpid()]))
"""
        ended = ran(code, tmp_path)
    environment, files, given, place, leads = json.loads(ended.output)
    threads = {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    assert set(environment) <= threads | {"LC_ALL", "LD_LIBRARY_PATH"}
    assert files == ["0", "1", "2", "3"]  # 3: the listing itself
    assert (given, place, leads) == ("", str(tmp_path), True)


def test_a_probe_that_takes_too_long_or_too_much_says_so(film: Path) -> None:
    with pytest.raises(Rejected) as refused:
        probed(film, seconds=0.01)
    assert refused.value.code == "took_too_long"
    with pytest.raises(Rejected) as refused:
        probed(film, memory=20 << 20)
    assert refused.value.code in ("too_much_memory", "crashed")
    assert probed(film).frames == 25


def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from longtake.service.sandbox import run_limited
run_limited([sys.executable, "-c", "import time; time.sleep(60)"], folder=Path({str(tmp_path)!r}))
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        child = until(lambda: _program_of(parent.pid))
    finally:
        parent.kill()
        parent.wait()
    assert until(lambda: not _runs(child))


def _program_of(parent: int) -> int | None:
    """The child of a process, once the launcher has become the program."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        if "_limited.py" not in "".join(words) and "import time; time.sleep(60)" in words:
            return int(child)
    return None


def _runs(pid: int) -> bool:
    """Whether the process is there and no corpse."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
