"""The host's memory as /proc and control groups say it, from files of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from longtake.planner import host

GiB, MiB = 1 << 30, 1 << 20


@pytest.fixture
def proc(tmp_path) -> Path:
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "pressure").mkdir()
    (folder / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    (folder / "vmstat").write_text("nr_free_pages 9\npswpin 512\npswpout 3\n")
    (folder / "pressure/memory").write_text(
        "some avg10=12.50 avg60=1.00 avg300=0.00 total=7\nfull avg10=99.00 avg60=0 avg300=0 total=1"
    )
    return folder


@pytest.fixture
def groups(tmp_path) -> Path:
    folder = tmp_path / "cgroup"
    folder.mkdir()
    return folder


def told(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(f"{text}\n")


def test_without_control_groups_the_system_speaks(groups, proc) -> None:
    found = host.look(groups, proc)
    assert (found.ram, found.free) == (16 * GiB, 8 * GiB)
    assert found.pressure == 12.5
    assert found.swapped_in == 512 * host._page()
    assert found.throttled == 0


@pytest.mark.parametrize("version", [1, 2])
def test_pages_of_files_are_free(groups, proc, version) -> None:
    """Version 2 in a group below the root; version 1 beside it."""
    path = "/a/job"
    (proc / "self/cgroup").write_text(f"4:memory:{path}\n" if version == 1 else f"0::{path}\n")
    if version == 1:
        told(groups / "memory/a/job", limit_in_bytes=4 * GiB, usage_in_bytes=3 * GiB,
             stat=f"total_inactive_file {GiB}\ntotal_active_file {GiB}")  # fmt: skip
    else:
        told(groups / "a/job", max=4 * GiB, current=3 * GiB,
             stat=f"inactive_file {GiB}\nactive_file {GiB}")  # fmt: skip
    assert host.ram(groups, proc) == (4 * GiB, 3 * GiB)


def test_the_tightest_group_above_counts(groups, proc) -> None:
    (proc / "self/cgroup").write_text("0::/a/job\n")
    told(groups / "a/job", max="max", current=GiB)
    told(groups / "a", max=2 * GiB, current=2 * GiB - 100 * MiB)
    assert host.ram(groups, proc) == (2 * GiB, 100 * MiB)


def test_a_group_that_is_larger_than_the_machine_is_none(groups, proc) -> None:
    told(groups / "memory", limit_in_bytes=9223372036854771712, usage_in_bytes=15 * GiB)
    assert host.ram(groups, proc) == (16 * GiB, 8 * GiB)
    assert host.physical(proc) == 16 * GiB


def test_a_group_speaks_of_its_own_pressure_and_swap(groups, proc) -> None:
    (proc / "self/cgroup").write_text("0::/job\n")
    told(
        groups / "job",
        max=4 * GiB,
        current=GiB,
        stat="workingset_refault_anon 8",
        events="low 0\nhigh 3\nmax 9\noom 0",
        pressure="some avg10=2.00 avg60=0 total=1",
    )
    found = host.look(groups, proc)
    assert (found.pressure, found.throttled) == (2.0, 3)
    assert found.swapped_in == 8 * host._page()


def test_the_machine_itself() -> None:
    found = host.look()
    assert 0 < found.free <= found.ram <= host.physical()
    limit = host.lockable()
    assert limit is None or limit >= 0
