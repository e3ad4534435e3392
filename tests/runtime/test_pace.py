"""When work is late, and when it only seems so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.runtime.pace import FIRST, LAP, LATE, Expected, Late, Pace

SECONDS = st.floats(LAP, 100, allow_nan=False)


def laps(pace: Pace, *seconds: float) -> list[Late | None]:
    return [pace.took(1, each) for each in seconds]


@given(SECONDS, st.lists(st.floats(1, LATE), max_size=30))
def test_what_stays_below_is_never_late(usual, times) -> None:
    pace = Pace()
    made = laps(pace, 9 * usual, *[usual] * FIRST, *[usual * x for x in times])
    assert made == [None] * len(made)


@given(SECONDS, st.floats(LATE * 1.001, 50), st.integers(2, 9))
def test_two_in_a_row_are_told_once(usual, times, count) -> None:
    pace = Pace()
    assert not any(laps(pace, usual, *[usual] * FIRST))
    made = laps(pace, *[usual * times] * count)
    told = [i for i, late in enumerate(made) if late]
    assert told == list(range(1, count, 2))
    first = made[1]
    assert first is not None
    assert first.seconds == pytest.approx(usual * times)
    assert (first.expected.seconds, first.expected.of) == (usual, "start")


@given(SECONDS, st.lists(st.booleans(), max_size=30))
def test_no_two_in_a_row_are_never_told(usual, late) -> None:
    alone = [x and not (i and late[i - 1]) for i, x in enumerate(late)]
    pace = Pace(expected=Expected(seconds=usual))
    made = laps(pace, usual, *[usual * (9 if x else 1) for x in alone])
    assert not any(made)


def test_the_first_lap_is_warming_up() -> None:
    pace = Pace(expected=Expected(seconds=1))
    assert laps(pace, 1000, 2, 2)[1:] == [None, Late(seconds=2, expected=Expected(seconds=1))]


def test_short_steps_make_a_lap_together() -> None:
    """Steps of 10 ms are up to five times as long now and then; a hundred of them are not."""
    pace = Pace(expected=Expected(seconds=0.01))
    for _ in range(2000):
        assert pace.took(1, 0.05) is None
        for _ in range(99):
            assert pace.took(1, 0.01) is None
    assert pace.laps > 10


def test_a_stretch_that_begins_forgets_what_warmed_it_up() -> None:
    pace = Pace(least=16, expected=Expected(seconds=0.1))
    assert pace.took(16, 2) is None  # warming up
    for _ in range(9):
        pace.took(8, 50)
        pace.begun()
        assert pace.took(16, 1.6) is None
