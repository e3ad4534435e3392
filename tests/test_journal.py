"""The journal survives kills, torn lines and missing parts, and refuses another recipe by name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from longtake import journal as journals
from longtake.core.errors import JournalDamaged, RecipeChanged
from longtake.journal import Journal, load_plan, parts_of
from tests.plans import a_plan


def commit(journal: Journal, index: int, text: bytes = b"part"):
    segment = journal_plan().segments[index]
    journal.part(segment).write_bytes(text)
    return journal.commit(segment, journal.part(segment), 1.0)


def journal_plan():
    return a_plan({"set": {"segment_frames": 100}})


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path, journal_plan(), ".mp4")


def test_what_is_committed_is_found_again(journal, tmp_path) -> None:
    made = commit(journal, 3)
    again = Journal(tmp_path, journal_plan(), ".mp4")
    assert again.committed() == {3: made}
    assert parts_of(tmp_path, journal_plan(), ".mp4") == {3: made}
    assert load_plan(tmp_path) == journal_plan()


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_a_torn_last_line_is_as_if_it_had_not_been_written(journal, tmp_path, cut) -> None:
    commit(journal, 0)
    commit(journal, 1)
    log = tmp_path / "journal.jsonl"
    log.write_bytes(log.read_bytes()[:-cut])
    again = Journal(tmp_path, journal_plan(), ".mp4")
    assert set(again.committed()) in ({0}, {0, 1})  # only the newline may be gone
    commit(again, 2)
    assert 2 in Journal(tmp_path, journal_plan(), ".mp4").committed()


def test_a_part_that_is_gone_or_cut_short_is_made_again(journal, tmp_path) -> None:
    commit(journal, 0).unlink()
    commit(journal, 1).write_bytes(b"p")
    commit(journal, 2)
    again = Journal(tmp_path, journal_plan(), ".mp4")
    assert set(again.committed()) == {2}


def test_leftovers_are_removed(journal, tmp_path) -> None:
    commit(journal, 0)
    half = journal.part(journal_plan().segments[1])
    half.write_bytes(b"half")
    folder = journal.part(journal_plan().segments[2])
    folder.mkdir()
    (folder / "x").touch()
    Journal(tmp_path, journal_plan(), ".mp4")
    assert not half.exists()
    assert not folder.exists()


def test_another_recipe_is_refused_by_name(journal, tmp_path) -> None:
    plan = journal_plan()
    other = replace(plan, recipe=replace(plan.recipe, encoder=replace(plan.recipe.encoder, crf=20)))
    with pytest.raises(RecipeChanged, match=r"recipe\.encoder\.crf: 16 -> 20"):
        Journal(tmp_path, other, ".mp4")


def test_another_placement_is_not(journal, tmp_path) -> None:
    plan = journal_plan()
    moved = replace(plan, placement=replace(plan.placement, step=1))
    assert Journal(tmp_path, moved, ".mp4").committed() == {}


def test_a_damaged_plan_says_so(journal, tmp_path) -> None:
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(JournalDamaged, match="--restart"):
        Journal(tmp_path, journal_plan(), ".mp4")


def test_another_version_says_so(journal, tmp_path) -> None:
    log = tmp_path / "journal.jsonl"
    log.write_text(log.read_text().replace('"version": 1', '"version": 7'))
    with pytest.raises(JournalDamaged, match="version 7"):
        Journal(tmp_path, journal_plan(), ".mp4")


# --- Windows -------------------------------------------------------------------------------------


def test_a_rename_waits_for_a_scanner_on_windows_only(tmp_path, monkeypatch) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"x")
    real, refusals = Path.replace, [PermissionError("used by another process")] * 3

    def replace_(path: Path, target: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace_)
    monkeypatch.setattr(journals, "_PAUSE", 0)
    with pytest.raises(PermissionError):
        journals.rename(old, new)
    assert len(refusals) == 2
    monkeypatch.setattr(journals, "_WINDOWS", True)
    journals.rename(old, new)
    assert new.read_bytes() == b"x"
    refusals.extend([PermissionError("for ever")] * 99)
    with pytest.raises(PermissionError):
        journals.rename(new, old)


def test_windows_syncs_files_that_are_open_for_writing_and_no_folders(
    tmp_path, monkeypatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    opened: list[tuple[str, int]] = []
    real = os.open

    def open_(path, flags, *more):
        opened.append((Path(path).name, flags & (os.O_RDWR | os.O_WRONLY)))
        return real(path, flags, *more)

    monkeypatch.setattr(journals.os, "open", open_)
    journals.sync(tmp_path)
    assert opened == [("file", 0), (tmp_path.name, 0)]
    opened.clear()
    monkeypatch.setattr(journals, "_WINDOWS", True)
    journals.sync(tmp_path)
    assert opened == [("file", os.O_RDWR)]


def test_a_journal_of_nonsense_counts_for_nothing(journal, tmp_path) -> None:
    commit(journal, 0)
    with (tmp_path / "journal.jsonl").open("ab") as log:
        log.write(b'{"segment": "1"}\n{"segment": -1, "bytes": 4}\n{"segment": 10000}\n[1]\nnull\n')
    found = journals.parts_of(tmp_path, journal_plan(), ".mp4")
    assert list(found) == [0]
    found[0].write_bytes(b"cut")
    assert not journals.parts_of(tmp_path, journal_plan(), ".mp4")
