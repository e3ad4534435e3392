"""Where blocks lie: counts, distances, bytes; the formula of a pass and its simulation."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from longtake.core.errors import Usage
from longtake.offload._partition import (
    Pace,
    Partition,
    first_seconds,
    host_needed,
    partition,
    pass_seconds,
    resident_needed,
    simulate,
    spread,
)

SECONDS = st.floats(0.01, 10)


@st.composite
def partitions(draw: st.DrawFn, slots: int = 2, read_ahead: int = 2, phases: int = 1) -> Partition:
    """At least so many slots and blocks read ahead, at most so many phases."""
    blocks = draw(st.integers(1, 48))
    return partition(
        blocks,
        resident=draw(st.integers(0, blocks)),
        host=draw(st.none() | st.integers(0, blocks)),
        slots=draw(st.integers(slots, 3)),
        read_ahead=draw(st.integers(read_ahead, 5)),
        phases=draw(st.integers(1, phases)),
    )


# --- places --------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(0, 200))
def test_spread_is_even_round_and_round(among: int, count: int):
    found = spread(count, among)
    assert len(set(found)) == len(found) == min(count, among)
    assert all(0 <= i < among for i in found)
    if count:
        steps = [b - a for a, b in pairwise((*found, found[0] + among))]
        assert max(steps) - min(steps) <= 1


@given(
    st.integers(0, 60), st.integers(0, 70), st.none() | st.integers(0, 70), st.integers(2, 3),
    st.integers(1, 4),
)  # fmt: skip
def test_every_block_has_one_place(
    blocks: int, resident: int, host: int | None, slots: int, phases: int
):
    where = partition(
        blocks, resident=resident, host=host, slots=slots, read_ahead=4, phases=phases
    )
    assert sorted(where.device + where.host + where.disk) == list(range(blocks))
    assert where.streamed == tuple(i for i in range(blocks) if i not in where.device)
    if (blocks - resident) * phases <= slots:  # then slots would hold them for good
        assert len(where.device) == blocks
        assert where.slots == 0
    else:
        assert len(where.device) == resident
        left = blocks - resident
        assert len(where.host) == (left if host is None else min(host, left))
        assert where.slots == slots
    assert where.read_ahead == min(4, len(where.disk))


@given(partitions())
def test_neither_place_is_crowded(where: Partition):
    """Any run of blocks has as many of a kind as its length lets expect, but for one."""
    for kind, among in ((where.device, range(where.blocks)), (where.disk, where.streamed)):
        for length in (1, 2, 5, len(among)):
            expected = length * len(kind) / max(len(among), 1)
            for first in range(len(among) - length + 1):
                found = len(set(among[first : first + length]) & set(kind))
                assert abs(found - expected) < 1 + 1e-9


@given(partitions(), st.integers(1, 1 << 30), st.integers(0, 1 << 30))
def test_bytes_add_up(where: Partition, block: int, rest: int):
    kept = len(where.device) + len(where.host) + len(where.disk)
    assert where.bytes_copied(block) == block * (kept - len(where.device))
    assert where.bytes_read(block) == block * len(where.disk)
    assert where.device_bytes(block, rest) - where.slots * block == len(where.device) * block + rest
    assert where.host_bytes(block, rest) == (len(where.host) + where.read_ahead) * block + rest
    more = where.host_bytes(block, rest, keeps=True) - where.host_bytes(block, rest)
    assert more == len(where.device) * block


@given(partitions(phases=4), st.integers(1, 1 << 30), st.integers(0, 1 << 30))
def test_slots_are_as_large_as_what_comes(where: Partition, phase: int, rest: int):
    block = 2 * phase
    there = len(where.device) * block + rest
    if where.phases == 1:
        assert where.device_bytes(block, rest) == there + where.slots * block
    else:
        assert where.device_bytes(block, rest, phase=phase) == there + where.slots * phase
        with pytest.raises(ValueError, match="largest phase"):
            where.device_bytes(block, rest)
    assert where.host_bytes(block) == (len(where.host) + where.read_ahead) * block


@pytest.mark.parametrize(
    "numbers",
    [{"resident": -1}, {"host": -1}, {"slots": 1}, {"slots": 4}, {"read_ahead": 1}],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, int]):
    name, value = next(iter(numbers.items()))
    with pytest.raises(Usage, match=f"{name}.*={value}|{name}={value}"):
        partition(8, **{"resident": 0, **numbers})


# --- time ----------------------------------------------------------------------------------------


def settled(where: Partition, pace: Pace) -> float:
    """Seconds of a pass, the beginning being forgotten."""
    ends = simulate(where, pace, 16)
    return (ends[-1] - ends[-9]) / 8


@given(partitions(slots=3, read_ahead=3), SECONDS, SECONDS, SECONDS)
@settings(max_examples=300)
def test_simulation_agrees_with_the_formula(
    where: Partition, compute: float, copy: float, read: float
):
    pace = Pace(compute=compute, copy=copy, read=read)
    found, formula = settled(where, pace), pass_seconds(where, pace)
    slowest = max(compute, copy if where.streamed else 0.0, read if where.disk else 0.0)
    assert formula * (1 - 1e-9) <= found <= formula + slowest
    first = simulate(where, pace, 1)[0]
    assert formula <= first * (1 + 1e-9)
    assert first <= formula + first_seconds(where, pace) + 2 * slowest


@given(st.integers(3, 48), SECONDS, SECONDS)
def test_two_slots_are_enough_where_nothing_is_resident(blocks: int, compute: float, copy: float):
    where = partition(blocks, resident=0)
    pace = Pace(compute=compute, copy=copy)
    assert settled(where, pace) == pytest.approx(blocks * max(compute, copy))


@given(partitions(), SECONDS, SECONDS, SECONDS, st.floats(0.95, 1.05))
@settings(max_examples=300)
def test_formula_is_never_above_and_a_fifth_below_at_most(
    where: Partition, compute: float, copy: float, read: float, balance: float
):
    if where.streamed:  # where it is hardest: all three about equal
        copy = compute * where.blocks / len(where.streamed) * balance
    if where.disk:
        read = compute * where.blocks / len(where.disk) * balance
    pace = Pace(compute=compute, copy=copy, read=read)
    found, formula = settled(where, pace), pass_seconds(where, pace)
    slowest = max(compute, copy if where.streamed else 0.0, read if where.disk else 0.0)
    assert formula * (1 - 1e-9) <= found <= 1.2 * formula + slowest


@given(st.integers(1, 60), st.integers(1, 1000), st.integers(1, 1000))
def test_resident_needed_is_the_least(blocks: int, compute: int, copy: int):
    needed = resident_needed(blocks, compute, copy)
    assert 0 <= needed <= blocks
    assert (blocks - needed) * copy <= blocks * compute
    assert needed == 0 or (blocks - needed + 1) * copy > blocks * compute


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 1000), st.integers(1, 1000))
def test_host_needed_is_the_least(blocks: int, resident: int, compute: int, read: int):
    assume(resident <= blocks)
    needed = host_needed(blocks, resident, compute, read)
    from_disk = blocks - resident - needed
    assert needed >= 0
    assert from_disk * read <= blocks * compute
    assert needed == 0 or (from_disk + 1) * Fraction(read) > blocks * compute


def test_hidden_by_three_slots_is_hidden_in_the_simulation():
    for copy in (1.1, 1.5, 2.0, 3.7):
        needed = resident_needed(40, 1.0, copy)
        pace = Pace(compute=1.0, copy=copy)
        assert settled(partition(40, resident=needed, slots=3), pace) == pytest.approx(40)
        assert settled(partition(40, resident=needed - 1, slots=3), pace) > 40.01


# --- time of phases ------------------------------------------------------------------------------

PHASES = st.lists(st.tuples(SECONDS, SECONDS), min_size=2, max_size=4).map(tuple)


def pace_of(phases: tuple[tuple[float, float], ...], read: float = 0.0) -> Pace:
    compute, copy = map(sum, zip(*phases, strict=True))
    return Pace(compute=compute, copy=copy, read=read, phases=phases)


@given(st.integers(2, 40), PHASES)
def test_with_two_slots_a_phase_is_hidden_by_the_one_before(
    blocks: int, phases: tuple[tuple[float, float], ...]
):
    where = partition(blocks, resident=0, phases=len(phases))
    steps = zip(phases, (*phases[1:], phases[0]), strict=True)
    expected = blocks * sum(max(now[0], after[1]) for now, after in steps)
    assert pass_seconds(where, pace_of(phases)) == pytest.approx(expected)


@given(st.data(), PHASES, SECONDS)
@settings(max_examples=200)
def test_phases_are_never_faster_than_what_is_slowest(
    data: st.DataObject, phases: tuple[tuple[float, float], ...], read: float
):
    """And more slots, or whole blocks, never slower."""
    where = replace(data.draw(partitions()), phases=len(phases))
    pace = pace_of(phases, read)
    found, whole = pass_seconds(where, pace), pass_seconds(replace(where, phases=1), pace)
    assert found >= whole * (1 - 1e-9) or not where.streamed
    if where.slots == 2:
        assert settled(replace(where, slots=3), pace) <= settled(where, pace) * (1 + 1e-9)


def test_wans_phases_are_hidden_by_a_third_slot():
    """As of 14B at 480p on a card whose bus keeps up: attention is most of what is computed, and
    least of what is copied."""
    phases = ((0.60, 0.30), (0.10, 0.30), (0.30, 0.40))
    pace = pace_of(phases)
    two, three = (
        pass_seconds(partition(40, resident=0, slots=slots, phases=3), pace) for slots in (2, 3)
    )
    assert two == pytest.approx(40 * (0.60 + 0.40 + 0.30))
    assert three == pytest.approx(40)
    assert pass_seconds(partition(40, resident=0), pace) == pytest.approx(40)


def test_the_paces_of_phases_are_those_of_the_block():
    assert Pace(compute=3.0, copy=6.0).parts(3) == ((1.0, 2.0),) * 3
    with pytest.raises(ValueError, match="2 phases have a pace, and a block has 3"):
        pace_of(((1.0, 2.0), (3.0, 4.0))).parts(3)


def test_none_of_it_loads_torch():
    code = (
        "import sys, longtake.offload.ring, longtake.offload.disk, longtake.offload.swap;"
        "import longtake.offload._phases, longtake.offload._stalls;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
