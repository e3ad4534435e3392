"""Reading ahead: order, rooms in use are left alone, errors, a new beginning, an early end."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.errors import BadInput
from longtake.offload._host import Host
from longtake.offload._reads import ReadAhead
from tests.offload.toys import Net, Source


def rooms(source: Source, count: int) -> list[Host]:
    return [Host(source.slab.bytes) for _ in range(count)]


def source_of(layers: int = 6, **about: object) -> Source:
    return Source(Net(layers).blocks, **about)  # type: ignore[arg-type]


@given(
    order=st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True).map(sorted),
    depth=st.integers(1, 5),
    workers=st.integers(1, 4),
    stops=st.lists(st.integers(0, 12), max_size=3),
)
@settings(max_examples=30, deadline=None)
def test_round_and_round_in_order_and_anew(
    order: list[int], depth: int, workers: int, stops: list[int]
):
    """Whatever was sent when it began again, the bytes are those of the block whose turn it is."""
    source = source_of()
    reads = ReadAhead(source, order, rooms(source, depth), workers)
    for taken in (*stops, 8):
        for number in range(taken):
            reads.wait()
            assert reads.ready()
            block = order[number % len(order)]
            assert bytes(reads.next().numpy()) == source._bytes[block]
            reads.sent(lambda: None)
        reads.restart()
    reads.close()
    assert set(source.order) <= set(order)
    assert source.most <= min(workers, depth)


def test_order_of_reads_is_that_of_use():
    source = source_of()
    reads = ReadAhead(source, [1, 2, 5], rooms(source, 2), 1)
    for _ in range(7):
        reads.wait()
        reads.sent(lambda: None)
    reads.close()
    assert source.order[:7] == [1, 2, 5, 1, 2, 5, 1]
    assert len(source.order) <= 9  # never more ahead than there are rooms


def test_a_room_is_left_alone_until_its_copy_has_come():
    source = source_of()
    reads = ReadAhead(source, [0, 1, 2], rooms(source, 2), 2)
    arrivals: list[Future[None]] = [Future(), Future()]
    reads.wait()
    first = reads.next()
    reads.sent(arrivals[0].result)
    reads.wait()
    reads.sent(arrivals[1].result)
    time.sleep(0.05)
    assert not reads.ready()
    assert source.order == [0, 1]
    assert bytes(first.numpy()) == source._bytes[0]
    reads.restart()  # and not on a new beginning either
    time.sleep(0.05)
    assert source.order == [0, 1]
    for arrival in arrivals:
        arrival.set_result(None)
    reads.wait()
    assert bytes(reads.next().numpy()) == source._bytes[0]
    reads.close()


def test_an_error_is_told_where_its_block_is_wanted():
    error = BadInput("block 2 is damaged")

    def trouble(number: int, block: int) -> None:
        if number == 2:
            raise error

    source = source_of(trouble=trouble)
    reads = ReadAhead(source, range(6), rooms(source, 3), 1)
    for _ in range(2):
        reads.wait()
        reads.sent(lambda: None)
    with pytest.raises(BadInput) as told:
        reads.wait()
    assert told.value is error
    assert not reads.ready()
    reads.restart()
    for _ in range(6):
        reads.wait()
        reads.sent(lambda: None)
    reads.close()


def test_closed_early_nothing_more_is_begun():
    reading, go_on = threading.Event(), threading.Event()

    def trouble(number: int, block: int) -> None:
        reading.set()
        assert go_on.wait(10)

    source = source_of(trouble=trouble)
    reads = ReadAhead(source, range(6), rooms(source, 4), 1)
    assert reading.wait(10)
    closing = threading.Thread(target=reads.close)
    closing.start()
    time.sleep(0.02)
    assert closing.is_alive()  # the room is being written to
    go_on.set()
    closing.join(10)
    assert not closing.is_alive()
    assert source.order == [0]


def test_closed_only_when_nothing_is_copied_any_more():
    """The next turn's reads will go to the same rooms."""
    source = source_of()
    reads = ReadAhead(source, range(6), rooms(source, 2), 1)
    arrival: Future[None] = Future()
    reads.wait()
    reads.sent(arrival.result)
    closing = threading.Thread(target=reads.close)
    closing.start()
    time.sleep(0.02)
    assert closing.is_alive()
    arrival.set_result(None)
    closing.join(10)
    assert not closing.is_alive()


def test_a_new_beginning_waits_for_the_read_that_it_overtakes():
    """Whose bytes would fall into the room after those that are wanted."""
    reading, go_on = threading.Event(), threading.Event()

    def trouble(number: int, block: int) -> None:
        if number == 0:
            reading.set()
            assert go_on.wait(10)

    source = source_of(trouble=trouble)
    reads = ReadAhead(source, [0, 1], rooms(source, 1), 2)
    assert reading.wait(10)
    reads.restart()
    time.sleep(0.03)
    assert not reads.ready()
    go_on.set()
    reads.wait()
    assert bytes(reads.next().numpy()) == source._bytes[0]
    assert source.most == 1
    reads.close()
