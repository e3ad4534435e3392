"""Files by key, and files that a user names by path: no key and no path leads outside."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake import journal
from longtake.core.errors import BadInput
from longtake.service.blobs import Blobs, InUse, open_under_roots, under_roots

HOSTILE = [
    "", ".", "..", "/", "//", "/etc/passwd", "../x", "a/../../x", "a/..", "a/.", "a//b", "a/", "/a",
    "A/b", "a b", "a\\b", "a\0b", "a\n", "a:b", "~", "~/x", "%2e%2e/x", "a/…/b", "ａ", "a/...",
    "a" * 201, "/".join("abcdefghi"), "c:/x", "file:///etc/passwd", "${HOME}", "a;b", "*", "-/\r",
]  # fmt: skip


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.mark.parametrize("key", HOSTILE)
def test_what_is_no_key_of_ours_raises(blobs: Blobs, key: str) -> None:
    for use in (blobs.path, blobs.exists, blobs.size, blobs.delete, blobs.grow):
        with pytest.raises(ValueError, match="no key"):
            use(key)


@given(st.one_of(st.text(), st.text("./a-_~\\\0%A", max_size=12)))
def test_every_key_stays_below_the_root_or_raises(key: str) -> None:
    root = Path("/nowhere/blobs")
    try:
        path = Blobs(root).path(key)
    except ValueError:
        return
    assert root in Path(os.path.normpath(path)).parents
    assert str(path) == os.path.normpath(path)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_put_is_all_or_nothing_and_private(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    if elsewhere:  # a source on another disk
        real = journal.rename

        def rename(old: Path, new: Path) -> None:
            if old.parent != new.parent:
                raise OSError(errno.EXDEV, "other disk")
            real(old, new)

        monkeypatch.setattr("longtake.service.blobs.rename", rename)
    for content in (b"first", b"second, longer"):
        source = tmp_path / "made"
        source.write_bytes(content)
        path = blobs.put_atomic("assets/00ff/content", source)
        assert not source.exists()
        assert path.read_bytes() == content
        assert blobs.exists("assets/00ff/content")
        assert blobs.size("assets/00ff/content") == len(content)
    assert [p.name for p in path.parent.iterdir()] == ["content"]
    assert [p.stat().st_mode & 0o777 for p in (path.parent, blobs.root)] == [0o700, 0o700]
    blobs.delete("assets/00ff/content")
    blobs.delete("assets/00ff/content")
    assert blobs.size("assets/00ff/content") == 0
    assert list(blobs.root.iterdir()) == []
    assert blobs.free_bytes() > 0


def test_one_writer_at_a_time_and_no_link(blobs: Blobs, tmp_path: Path) -> None:
    first = blobs.grow("assets/a/content")
    with pytest.raises(InUse):
        blobs.grow("assets/a/content")
    first.write(3, b"xyz")
    first.cut(5)
    assert first.size == 5
    first.close()
    with pytest.raises(ValueError):
        first.write(0, b"late")
    blobs.grow("assets/a/content").close()
    assert blobs.path("assets/a/content").read_bytes() == b"\0\0\0xy"
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    blobs.path("assets/a/content").unlink()
    blobs.path("assets/a/content").symlink_to(outside)
    with pytest.raises(OSError):
        blobs.grow("assets/a/content")
    assert outside.read_bytes() == b"mine"


# --- files that a user names ---------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """media/ is a root: films/a.mkv, links inside and out. secret/ lies beside it."""
    for folder in ("media/films", "secret", "media-too"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("media/films/a.mkv", "secret/key", "media-too/b.mkv"):
        (tmp_path / name).write_bytes(name.encode())
    media = tmp_path / "media"
    (media / "inside").symlink_to(media / "films")
    (media / "out").symlink_to(tmp_path / "secret")
    (media / "films" / "out.mkv").symlink_to(tmp_path / "secret" / "key")
    (media / "films" / "up.mkv").symlink_to("../../secret/key")
    (media / "films" / "proc.mkv").symlink_to("/proc/self/environ")
    (media / "round").symlink_to(media / "round")
    os.mkfifo(media / "films" / "pipe.mkv")
    (tmp_path / "alias").symlink_to(media)
    return tmp_path


def test_files_under_a_root_are_taken(tree: Path) -> None:
    real = tree / "media" / "films" / "a.mkv"
    for path in ("media/films/a.mkv", "media/inside/a.mkv", "alias/films/a.mkv",
                 "media/films/../films/./a.mkv"):  # fmt: skip
        for root in ("media", "alias"):
            assert under_roots(str(tree / path), [tree / "media-too", tree / root]) == real
    found, handle = open_under_roots(str(real), [tree / "media"])
    with os.fdopen(handle, "rb") as file:
        assert (found, file.read()) == (real, b"media/films/a.mkv")


@pytest.mark.parametrize(
    "path",
    [
        "", "a.mkv", "media/films/a.mkv", "~/x", "file:///etc/passwd", "/", "/etc/passwd",
        "//etc/passwd", "/dev/zero", "/proc/self/environ", "{}/media", "{}/media/",
        "{}/media/films", "{}/media/films/none.mkv", "{}/media/films/a.mkv/x", "{}/secret/key",
        "{}/media/../secret/key", "{}/media/films/../../secret/key", "{}/media-too/b.mkv",
        "{}/media/out/key", "{}/media/inside/../../secret/key", "{}/media/films/out.mkv",
        "{}/media/films/up.mkv", "{}/media/films/proc.mkv", "{}/media/round", "{}/media/round/x",
        "{}/media/films/pipe.mkv", "{}/media/films/a.mkv\0", "{}/media/films/a.mkv\0.jpg", "\0",
        "{}/media/films/%2e%2e/%2e%2e/secret/key", "{}/media/films/..\\..\\secret\\key",
        "{}/media/films/\ud800", "{}/media/" + "x" * 300, "{}/media/" + "x/" * 3000,
        "{}/alias/out/key",
    ],
)  # fmt: skip
def test_other_paths_are_refused(tree: Path, path: str) -> None:
    with pytest.raises(BadInput):
        under_roots(path.replace("{}", str(tree)), [tree / "media"])


def test_whether_a_file_outside_exists_is_not_told(tree: Path) -> None:
    told = []
    for name in ("key", "yek"):
        with pytest.raises(BadInput) as refused:
            under_roots(str(tree / "secret" / name), [tree / "media"])
        told.append(str(refused.value).replace(name, "*"))
    assert told[0] == told[1]
    with pytest.raises(BadInput, match="none is configured"):
        under_roots(str(tree / "secret" / "key"), [])


@pytest.mark.parametrize("swapped", ["folder", "file"])
def test_a_link_swapped_in_meanwhile_leads_nowhere(tree: Path, swapped: str) -> None:
    """What is opened is inside, or nothing is, however often folder or file become a link."""
    media = tree / "media"
    good, bad, name = media / "good", tree / "bad", media / "now"
    for folder, content in ((good, b"inside"), (bad, b"outside")):
        folder.mkdir()
        (folder / "f").write_bytes(content)
    aims = [good, bad] if swapped == "folder" else [good / "f", bad / "f"]
    path = name / "f" if swapped == "folder" else name
    stop = threading.Event()

    def swap() -> None:
        spare = media / "spare"
        while not stop.is_set():
            for aim in aims:
                spare.symlink_to(aim)
                spare.replace(name)
            if swapped == "folder":  # also a real folder in the place of the link
                name.unlink()
                good.rename(name)
                name.rename(good)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = {b"inside": 0, b"refused": 0}
    try:
        for _ in range(4000):
            content = b"refused"
            with contextlib.suppress(BadInput):
                _, handle = open_under_roots(str(path), [media])
                content = os.read(handle, 16)
                os.close(handle)
            seen[content] += 1  # KeyError: it came from outside
    finally:
        stop.set()
        thread.join()
    assert sum(seen.values()) == 4000  # how many of each is the scheduler's
