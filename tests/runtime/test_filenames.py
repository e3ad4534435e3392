"""Names that a file system can hold, and the ones that longtake makes itself."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

import pytest

from longtake.core.plan import Segment
from longtake.journal import Journal
from longtake.runtime import filenames, workfolder
from longtake.runtime.filenames import case_blind, fault, folded, natural, usable, windows_fault
from longtake.runtime.finished import RECORD
from tests.media import films
from tests.plans import a_plan


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("con.mp4", "a device"), ("NUL", "a device"), ("com1.tar.mkv", "a device"),
        ("LPT\u00b2.mp4", "a device"), ("aux .mp4", "a device"), ("conin$", "a device"),
        ("a:b.mp4", "':'"), ("what?.mp4", "'?'"), ('"a".mp4', "'\"'"), ("a|b", "'|'"),
        ("a\nb.mp4", "file names"), ("a<b>", "'<'"), ("star*.mkv", "'*'"),
        ("film.", "the end of a name"), ("film ", "the end of a name"), ("film.mp4. .", "the end"),
    ],
)  # fmt: skip
def test_what_windows_cannot_hold(name, said) -> None:
    assert said in str(windows_fault(name))


@pytest.mark.parametrize(
    "name", ["film.mp4", "console.mp4", "com.mp4", "com10.mp4", "nul_1.mkv", "ü 漢字.mkv", "a.b..c"]
)
def test_what_windows_can_hold(name) -> None:
    assert windows_fault(name) is None


def test_a_name_that_only_windows_refuses_is_refused_there_only(tmp_path, monkeypatch) -> None:
    target = tmp_path / "what?.mp4"
    longest = workfolder.longest_path(target)
    assert fault(target, longest) is None
    monkeypatch.setattr(filenames, "WINDOWS", True)
    assert "Windows has no '?'" in str(fault(target, longest))
    deep = tmp_path / ("d" * 100) / ("e" * 100) / ("f" * 40 + ".mp4")
    assert "Windows takes 259" in str(fault(deep, workfolder.longest_path(deep)))
    monkeypatch.setattr(filenames, "_long_paths", lambda: True)
    assert fault(deep, workfolder.longest_path(deep)) is None


def test_a_name_too_long_for_its_work_folder_is_said_before_any_work(longtake, tmp_path) -> None:
    target = tmp_path / ("n" * 246 + ".mp4")  # 250 bytes: possible itself, OUT.longtake is not
    source = tmp_path / "in.mp4"
    source.write_bytes(b"x")
    refused = longtake("upscale", source, target, "--engine", "resize")
    assert refused.returncode == 2
    assert "259 bytes, and 255 are possible" in refused.stderr


def test_every_name_that_we_make_is_one_for_windows(tmp_path) -> None:
    plan = a_plan()
    journal = Journal(tmp_path / "out.mp4.longtake", plan, ".mp4")
    segment = Segment(index=3, lead=0, start=0, stop=5)
    part = journal.part(segment)
    part.write_bytes(b"x")
    journal.commit(segment, part, 1.0)
    made = {p.name for p in tmp_path.rglob("*")} | {part.name, RECORD, *workfolder._OURS}
    assert len(made) > 12
    assert [name for name in made if windows_fault(name)] == []
    assert all(PureWindowsPath(name).name == name for name in made)
    assert len({name.casefold() for name in made}) == len(made)


def test_stems_that_become_folders() -> None:
    assert [usable(s) for s in ("film", "film. .", "..", "a.b")] == ["film", "film", "_", "a.b"]
    assert all(windows_fault(usable(s)) is None for s in ("x ", "y...", " . "))


def test_order_and_sameness() -> None:
    names = ["ep 10", "Ep 2", "ep 2b", "ep 02", "a/9", "a/10", "b"]
    paths = sorted(map(Path, names), key=natural)
    assert [p.as_posix() for p in paths] == ["a/9", "a/10", "b", "Ep 2", "ep 02", "ep 2b", "ep 10"]
    assert folded(Path("Ä/B"), True) == folded(Path("a\u0308/b"), True)
    assert folded(Path("A"), False) != folded(Path("a"), False)


@pytest.mark.skipif(os.name == "nt", reason="asks for a file system that tells case apart")
def test_case_is_asked_of_the_file_system(tmp_path) -> None:
    here = tmp_path / "Folder"
    here.mkdir()
    blind = (tmp_path / "fOLDER").exists()
    assert case_blind(here / "not" / "yet") is blind


@pytest.mark.skipif(os.name == "nt", reason="there names are text")
def test_a_name_that_no_terminal_can_spell(job, longtake, tmp_path) -> None:
    """Bytes that are no UTF-8, and an output that knows ASCII only: through a batch, and said."""
    folder = tmp_path / "in"
    folder.mkdir()
    strange = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9 \xe6\xbc\xa2.mp4"))
    films.make(tmp_path / "plain.mp4", frames=8).rename(strange)
    (folder / "漢.mp4").write_bytes(b"no film")
    for _ in range(2):
        done = longtake(
            "upscale", folder, tmp_path / "out", "--engine", "resize", PYTHONIOENCODING="ascii"
        )
        assert done.returncode == 3
        assert "Traceback" not in done.stderr + done.stdout
        assert "1 failed" in done.stdout
    assert "1 finished before" in done.stdout
    assert (tmp_path / "out" / strange.name).exists()
    assert job("jobs", tmp_path / "out").code == 0
