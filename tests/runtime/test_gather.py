"""Which films a folder holds and where they go: names alone, no film is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longtake.core.errors import BadInput, Usage
from longtake.runtime import gather as room
from longtake.runtime.gather import Folder, gather


def folder(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0film")
    return root


def taken(found: Folder | None) -> dict[str, str]:
    assert found is not None
    return {f.name.as_posix(): f.target.relative_to(found.out).as_posix() for f in found.films}


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def test_people_s_order_and_mirrored_names(tmp_path, out) -> None:
    source = folder(
        tmp_path / "in", "10.mp4", "9.MOV", "B/2.webm", "B/10.m4v", "a/x.mkv", "b.MP4"
    )  # fmt: skip
    assert list(taken(gather(source, out, recursive=True)).items()) == [
        ("9.MOV", "9.mkv"), ("10.mp4", "10.mp4"), ("a/x.mkv", "a/x.mkv"), ("B/2.webm", "B/2.mkv"),
        ("B/10.m4v", "B/10.mp4"), ("b.MP4", "b.mp4"),
    ]  # fmt: skip
    assert list(taken(gather(source, out)).values()) == ["9.mkv", "10.mp4", "b.mp4"]


def test_one_suffix_for_all(tmp_path, out) -> None:
    source = folder(tmp_path / "in", "a.mkv", "my.film.mp4", "dots...mov")
    assert set(taken(gather(source, out, to="mp4")).values()) == {
        "a.mp4", "my.film.mp4", "dots...mp4"
    }  # fmt: skip
    # a folder of pictures: no dot that could be taken for a suffix, none at the end of a name
    assert set(taken(gather(source, out, to="png")).values()) == {"a", "my.film.png", "dots"}


def test_names_that_would_meet_keep_their_suffix(tmp_path, out) -> None:
    source = folder(tmp_path / "in", "a.mov", "a.avi", "a.mp4", "b.mov")
    found = gather(source, out)
    assert taken(found) == {
        "a.avi": "a.avi.mkv", "a.mov": "a.mov.mkv", "a.mp4": "a.mp4", "b.mov": "b.mkv"
    }  # fmt: skip
    assert found is not None
    assert "a.avi -> a.avi.mkv" in found.notes[-1]


def test_names_that_still_meet_are_refused(tmp_path, out) -> None:
    source = folder(tmp_path / "in", "a.mov", "a.mkv", "a.mov.mkv")
    with pytest.raises(Usage, match=r"would both become .*a\.mov\.mkv: rename one of them"):
        gather(source, out)


@pytest.mark.parametrize(
    ("first", "second"),
    [("Film.mp4", "film.mp4"), ("caf\u00e9.mp4", "cafe\u0301.mp4"), ("STRASSE.mp4", "straße.mp4")],
)
def test_where_case_does_not_count(tmp_path, out, monkeypatch, first, second) -> None:
    source = folder(tmp_path / "in", first, second)
    if len(list(source.iterdir())) < 2:
        pytest.skip("this file system takes the two for one already")
    assert len(set(taken(gather(source, out)).values())) == 2
    monkeypatch.setattr(room, "case_blind", lambda folder: True)
    with pytest.raises(Usage, match="rename one of them"):
        gather(source, out)


def test_a_film_inside_another_s_folder_is_refused(tmp_path, out) -> None:
    source = folder(tmp_path / "in", "film.mp4", "film/part.mp4")
    assert len(taken(gather(source, out, recursive=True))) == 2
    with pytest.raises(Usage, match=r"would lie inside .*film, which film\.mp4 becomes"):
        gather(source, out, recursive=True, to="png")


def test_a_target_that_is_a_source_is_refused(tmp_path) -> None:
    source = folder(tmp_path / "out" / "in", "in/a.mp4", "a.mp4")
    with pytest.raises(Usage, match=r"would replace .*a\.mp4: choose another OUT"):
        gather(source, tmp_path / "out", recursive=True)


def test_links_neither_loop_nor_double(tmp_path, out) -> None:
    source = folder(tmp_path / "in", "a.mp4", "deep/b.mp4")
    elsewhere = folder(tmp_path / "elsewhere", "c.mp4")
    (source / "deep" / "back").symlink_to(source, target_is_directory=True)
    (source / "again.mp4").symlink_to(source / "a.mp4")
    (source / "far.mp4").symlink_to(elsewhere / "c.mp4")
    (source / "far2.mp4").symlink_to(elsewhere / "c.mp4")
    (source / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")  # fails by name in its turn
    (source / "round.mp4").symlink_to(source / "round.mp4")  # so does this
    (source / "deep" / "x").symlink_to(source / "deep" / "y")
    (source / "deep" / "y").symlink_to(source / "deep" / "x")
    found = gather(source, out, recursive=True)
    assert list(taken(found)) == ["a.mp4", "deep/b.mp4", "far.mp4", "gone.mp4", "round.mp4"]
    assert found is not None
    assert "linked folders (1)" in found.notes[0]
    assert "links to films that are taken anyway (2)" in found.notes[0]


def test_what_is_not_taken(tmp_path) -> None:
    source = folder(
        tmp_path / "in", "a.mp4", "out/old.mp4", "earlier/.longtake.jsonl", "earlier/a.mp4",
        "a.mkv.longtake/joined.mkv", ".trash/b.mp4", "$RECYCLE.BIN/c.mp4", "._a.mp4",
        "load.mp4", "load.mp4.aria2", "load2.mp4.crdownload", "Thumbs.db", "cover.JPG",
    )  # fmt: skip
    found = gather(source, source / "out", recursive=True)
    assert list(taken(found)) == ["a.mp4"]
    assert found is not None
    assert set(found.notes[0].removeprefix("Left out: ").split(". ")[0].split(", ")) == {
        "folders of other output (1)", "hidden files and folders (3)", "partial downloads (3)",
        "files that are no videos (1)", "pictures (1)",
    }  # fmt: skip


def test_a_text_called_ts_is_no_video(tmp_path, out) -> None:
    source = folder(tmp_path / "in", "cam.ts", "empty.ts")
    (source / "empty.ts").write_bytes(b"")
    (source / "app.ts").write_text("const grüße = 'ü'\n" * 200, encoding="utf-8")
    assert list(taken(gather(source, out))) == ["cam.ts", "empty.ts"]


def test_one_film_is_no_batch(tmp_path, out) -> None:
    source = folder(tmp_path / "in", "1.png", "2.png")
    assert gather(source, out) is None
    assert gather(source / "1.png", out) is None
    assert gather(tmp_path / "missing.mp4", out) is None
    with pytest.raises(BadInput, match="no videos and no pictures"):
        gather(folder(tmp_path / "texts", "a.txt"), out)


@pytest.mark.parametrize("refused", ["scandir", "exists"])
def test_a_closed_folder_fails_by_name(tmp_path, out, monkeypatch, refused) -> None:
    """Whether it cannot be listed, or what is in it cannot be looked at; root may do both."""
    source = folder(tmp_path / "in", "a.mp4", "closed/b.mp4", "z.mp4")
    owner = {"scandir": os, "exists": Path}[refused]
    known = getattr(owner, refused)

    def closed(path):
        if (path.parent if refused == "exists" else Path(path)).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return known(path)

    monkeypatch.setattr(owner, refused, closed)
    found = gather(source, out, recursive=True)
    assert list(taken(found)) == ["a.mp4", "closed", "z.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_a_pipe_is_not_waited_for(tmp_path, out) -> None:
    source = folder(tmp_path / "in", "a.mp4")
    os.mkfifo(source / "cam.ts")
    assert list(taken(gather(source, out))) == ["a.mp4", "cam.ts"]  # fails by name in its turn
