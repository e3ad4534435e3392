"""Where a watch sends a job, for each cause; on a GPU that is not here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from longtake.core.events import Slowed
from longtake.core.ports import Step
from longtake.core.task import Limits
from longtake.offload._stalls import Stalls
from longtake.planner import host
from longtake.planner.calibration import Calibration
from longtake.planner.host import Host
from longtake.runtime import sight, watchdog
from longtake.runtime.recover import Moved, Recovery
from longtake.runtime.watchdog import Watch, Watched
from tests.plans import GiB
from tests.runtime.toy import MACHINE, on_a_gpu

FAST, SLOW = 1.0, 15.0  # s of 16 frames


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """A watch over a job whose weights lie there, on a host with so many bytes free."""

    def over(offload: str, *, free: int = 64 * GiB, **limits: Any) -> tuple[Watch, Recovery]:
        monkeypatch.setattr(host, "look", lambda: Host(ram=128 * GiB, free=free))
        plan, engine = on_a_gpu(offload)
        recovery = Recovery(plan=plan, engine=engine)
        about = Watched(
            machine=MACHINE, known=Calibration(tmp_path / "none"), limits=Limits(**limits)
        )
        watch = about.over(recovery, "cuda:0")
        watch.opened(0.0)
        return watch, recovery

    return over


def slowed(
    watch: Watch, recovery: Recovery, monkeypatch, cause: str, laps: int = 2
) -> tuple[list[Any], Moved | None]:
    """What is told, and where the work moves, when it becomes slow for that cause."""
    monkeypatch.setattr(sight, "cause", lambda *_: (cause, "the numbers"))
    segment, told, busy = recovery.plan.segments[0], [], 0.0
    try:
        for number, seconds in enumerate([0, *[FAST] * 4, *[SLOW] * laps]):
            busy += seconds
            frames = range(16 * number, 16 * number + 16)
            found = Step(done=number, of=99) if watch._generates else frames
            told += watch.after(segment, found, busy)
    except Moved as moved:
        return told, moved
    return told, None


@pytest.mark.parametrize(
    ("here", "cause", "limits", "there"),
    [
        ("resident", "VRAM", {}, "swap"),
        ("resident", "VRAM", {"ram": 17 * GiB}, "ring"),  # swap needs 20
        ("swap", "RAM", {}, "ring"),
        ("ring", "RAM", {}, "disk"),  # past the rung that saves a clip
        ("disk", "disk", {}, "swap"),
        ("disk", "disk", {"ram": 17 * GiB}, "ring"),
    ],
)
def test_a_job_moves_to_where_the_cause_is_not(
    watched, monkeypatch, here, cause, limits, there
) -> None:
    watch, recovery = watched(here, **limits)
    _, moved = slowed(watch, recovery, monkeypatch, cause)
    assert moved is not None
    assert moved.plan.placement.offload == there
    assert moved.plan.identity == recovery.plan.identity


@pytest.mark.parametrize(
    ("here", "cause", "limits", "words"),
    [
        ("disk", "disk", {"ram": 5 * GiB}, "a faster disk"),
        ("resident", "heat", {}, "the numbers"),
        ("resident", "unknown", {}, "the numbers"),
        ("resident", "VRAM", {"place": {"offload": "resident"}}, "--place offload=resident stands"),
        ("disk", "disk", {"place": {"offload": "disk"}}, "a faster disk"),
    ],
)
def test_where_nothing_helps_it_is_only_told(
    watched, monkeypatch, here, cause, limits, words
) -> None:
    watch, recovery = watched(here, **limits)
    (event,), moved = slowed(watch, recovery, monkeypatch, cause, laps=12)
    assert moved is None
    assert isinstance(event, Slowed)
    assert event.cause == cause
    assert words in event.message


def test_a_placement_that_was_left_is_not_gone_back_to(watched, monkeypatch) -> None:
    watch, recovery = watched("disk")
    for way in ("swap", "ring"):
        plan, _ = on_a_gpu(way)
        recovery.left |= {replace(plan.placement, queue=queue) for queue in (1, 2)}
    told, moved = slowed(watch, recovery, monkeypatch, "disk")
    assert moved is None
    assert "a faster disk" in told[0].message


def test_each_cause_moves_a_job_once(watched, monkeypatch) -> None:
    watch, recovery = watched("swap")
    _, moved = slowed(watch, recovery, monkeypatch, "RAM")
    assert moved is not None
    recovery.after(moved, recovery.plan.segments[0])
    watch.opened(0.0)
    told, again = slowed(watch, recovery, monkeypatch, "RAM", laps=8)
    assert (told, again) == ([], None)


@pytest.mark.parametrize(("each", "told"), [(10.0, True), (2.0, False)])
def test_steps_that_starve_are_told_though_they_are_hardly_longer(
    watched, monkeypatch, each, told
) -> None:
    """Every step takes 25 s instead of 20, `each` of which it waits for the disk."""
    monkeypatch.setattr(Watch, "_generates", True)
    watch, recovery = watched("disk", place={"offload": "disk"})
    waited = iter(range(99))
    monkeypatch.setattr(watchdog, "stalls", lambda nets: Stalls(on_reads=each * next(waited)))
    watch.opened(0.0, object())
    said: list[Any] = []
    for number in range(8):
        said += watch.after(recovery.plan.segments[0], Step(done=number, of=9), 25.0 * number)
    assert [event.cause for event in said] == ["disk"] * told
    if told:
        assert "A step takes 25 s, 1.2 times the 20 s planned" in said[0].message
        assert "at 600 MB/s of 2,000 planned" in said[0].message


def test_a_slow_disk_is_told_in_megabytes(watched, monkeypatch) -> None:
    """30 blocks of 500 MB in a step of 15 s; each was planned to take 0.25 s."""
    monkeypatch.setattr(Watch, "_generates", True)
    watch, recovery = watched("disk", place={"offload": "disk"})
    told, _ = slowed(watch, recovery, monkeypatch, "disk")
    assert "at 1,000 MB/s of 2,000 planned" in told[0].message
