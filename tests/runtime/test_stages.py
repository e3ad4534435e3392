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


def test_writing_behind_consumes_all_in_order_and_gives_back() -> None:
    def doubled(items):
        for item in items:
            yield 2 * item

    behind = Behind(doubled, depth=1)
    seen = [made for i in range(50) for made in behind.put(i)]
    seen += behind.finish()
    assert seen == [2 * i for i in range(50)]


def test_no_more_wait_behind_than_may() -> None:
    taken: list[int] = []
    go = threading.Event()

    def slow(items):
        for item in items:
            go.wait()
            taken.append(item)
            yield item

    behind = Behind(slow, depth=2)
    for i in range(3):  # one in hand, two waiting
        behind.put(i)
    blocked = threading.Thread(target=behind.put, args=(3,))
    blocked.start()
    blocked.join(timeout=0.3)
    assert blocked.is_alive()
    assert taken == []
    go.set()
    blocked.join()
    list(behind.finish())
    assert taken == [0, 1, 2, 3]


def test_an_error_behind_is_raised_in_front_after_what_was_made() -> None:
    def fail(items):
        for item in items:
            if item == 2:
                raise ValueError("broken")
            yield item

    behind = Behind(fail, depth=1)
    seen: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        for i in range(100):
            seen += behind.put(i)
    assert seen == [0, 1]
    with pytest.raises(ValueError, match="broken"):  # and again, so that nobody misses it
        list(behind.finish())
    behind.abandon()


def test_an_abandoned_writer_ends_and_sees_its_items_end() -> None:
    left: list[str] = []

    def slow(items):
        for _ in items:
            time.sleep(0.01)
            yield None
        left.append("end")

    behind = Behind(slow, depth=3)
    for i in range(3):
        behind.put(i)
    behind.abandon()
    assert left == ["end"]
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
