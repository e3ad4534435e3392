"""Segments tile the film, end where shots end, and never warm up in another shot."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from longtake.planner.segments import cut

films = st.integers(1, 3000).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.integers(8, 400),
        st.integers(0, 20),
        st.integers(0, 10),
        st.lists(st.integers(1, max(n - 1, 1)), unique=True).map(
            lambda cuts: tuple(sorted(c for c in cuts if c < n))
        ),
    )
)


@given(films)
def test_segments_tile_the_film(film) -> None:
    frames, length, lead, tail, cuts = film
    made = cut(frames, length, lead, tail, cuts)
    assert [s.index for s in made] == list(range(len(made)))
    assert made[0].start == 0
    assert made[-1].stop == frames
    assert all(a.stop == b.start for a, b in pairwise(made))
    assert all(0 < s.stop - s.start <= length for s in made)


@given(films)
def test_no_state_crosses_a_cut(film) -> None:
    frames, length, lead, tail, cuts = film
    for s in cut(frames, length, lead, tail, cuts):
        assert 0 <= s.start - s.lead <= lead
        assert 0 <= s.tail <= tail
        assert s.stop + s.tail <= frames
        assert s.cuts == tuple(c for c in cuts if s.lead < c < s.stop + s.tail)
        assert not any(s.lead < c <= s.start for c in cuts)
        assert not any(s.stop <= c < s.stop + s.tail for c in cuts)
        shots = s.shots()
        assert shots[0][0] == s.lead
        assert shots[-1][1] == s.stop + s.tail
        assert all(a[1] == b[0] for a, b in pairwise(shots))


@given(films)
def test_warm_up_costs_nothing_where_a_shot_begins(film) -> None:
    frames, length, lead, tail, cuts = film
    for s in cut(frames, length, lead, tail, cuts):
        if s.start in cuts or s.start == 0:
            assert s.lead == s.start


def test_a_long_shot_is_divided_evenly() -> None:
    assert [(s.start, s.stop) for s in cut(241, 240)] == [(0, 120), (120, 241)]


def test_segments_end_with_shots() -> None:
    made = cut(300, 100, lead=5, cuts=(90, 170, 260))
    assert [(s.lead, s.start, s.stop) for s in made] == [
        (0, 0, 90), (90, 90, 170), (170, 170, 260), (260, 260, 300)
    ]  # fmt: skip


def test_short_shots_share_a_segment() -> None:
    made = cut(130, 60, cuts=tuple(range(13, 130, 13)))
    assert [(s.start, s.stop) for s in made] == [(0, 52), (52, 104), (104, 130)]
    assert made[0].cuts == (13, 26, 39)
    assert made[1].shots() == ((52, 65), (65, 78), (78, 91), (91, 104))


def test_a_sliver_of_a_shot_is_no_segment_of_its_own() -> None:
    made = cut(1000, 200, cuts=(5,))
    assert made[0].start == 0
    assert made[0].stop > 100
    assert made[0].cuts == (5,)


@given(films, st.integers(2, 12))
def test_streams_begin_on_the_grid_of_their_shot(film, align) -> None:
    """With a grid everything above still holds, and leads are as short as they can be."""
    frames, length, lead, tail, cuts = film
    length = max(length, align)
    made = cut(frames, length, lead, tail, cuts, align)
    assert (made[0].start, made[-1].stop) == (0, frames)
    assert all(a.stop == b.start for a, b in pairwise(made))
    for s in made:
        assert 0 < s.stop - s.start <= length
        shot = max(c for c in (0, *cuts) if c <= s.start)
        assert (s.lead - shot) % align == 0
        assert s.start - lead - align < s.lead or s.lead == shot
        assert s.lead <= max(s.start - lead, shot)


def test_a_long_shot_is_divided_on_the_grid() -> None:
    made = cut(1001, 480, lead=24, tail=11, align=8)
    assert [(s.lead, s.start, s.stop, s.tail) for s in made] == [
        (0, 0, 336, 11), (312, 336, 672, 11), (648, 672, 1001, 0)
    ]  # fmt: skip
