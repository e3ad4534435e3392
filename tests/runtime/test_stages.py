"""Reading ahead and writing behind: order, bounds, errors and closing."""

from __future__ import annotations

import threading
import time

import pytest

from longtake.runtime.stages import Behind, Meter, ahead


def test_order_is_kept_and_the_thread_is_never_far_ahead() -> None:
    made: list[int] = []

    def count():
        for i in range(20):
            made.append(i)
            yield i

    seen = []
    for item in ahead(count(), depth=2):
        time.sleep(0.005)
        assert len(made) <= len(seen) + 1 + 2 + 1  # in hand, waiting, being made
        seen.append(item)
    assert seen == list(range(20))


def test_an_error_arrives_after_what_came_before_it() -> None:
    def fails():
        yield 1
        raise ValueError("broken")

    stream = ahead(fails(), depth=4)
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken"):
        next(stream)


def test_closing_stops_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    stream = ahead(endless(), depth=1)
    next(stream)
    stream.close()
    assert closed.is_set()
    assert not [t for t in threading.enumerate() if t.name.startswith("longtake")]


def test_writing_behind_consumes_all_in_order() -> None:
    seen: list[int] = []
    behind = Behind(seen.append, depth=1)
    for i in range(50):
        behind.put(i)
    behind.finish()
    assert seen == list(range(50))


def test_an_error_behind_is_raised_in_front() -> None:
    def fail(item: int) -> None:
        raise ValueError(str(item))

    behind = Behind(fail, depth=1)
    with pytest.raises(ValueError, match="0"):
        for i in range(100):
            behind.put(i)
    behind.abandon()


def test_an_abandoned_writer_ends() -> None:
    slow = Behind(lambda item: time.sleep(0.01), depth=3)
    for i in range(3):
        slow.put(i)
    slow.abandon()
    assert not [t for t in threading.enumerate() if t.name.startswith("longtake")]


def test_the_meter_counts_making_and_not_using(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    meter = Meter()

    def slow():
        nonlocal now
        for _ in range(3):
            now += 1  # making an item takes a second
            yield 1

    for _ in meter.timed("decode", slow()):
        now += 10  # using it ten
    assert meter.busy["decode"] == 3
