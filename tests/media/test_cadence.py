"""What is dropped keeps the clock, whatever the pictures say; patterns are found and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.media import _cadence
from longtake.media._cadence import (
    AS_CODED,
    COMBED,
    DROP,
    NONE,
    PATTERNS,
    Evidence,
    Verdict,
    decide,
)


def verdict(of: Evidence) -> Verdict:
    found = [*decide(of.cut, len(of.comb))]
    return Verdict(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def telecined(frames: int, phase: int = 0, order: str = "tff", noise: float = 0.0) -> Evidence:
    """What ideal pictures of 3:2 pulldown measure, with the combs of a lively film."""
    chance = np.random.default_rng(frames)
    pattern = next(p for p in PATTERNS if (p.kind, p.order) == ("3:2", order))
    comb, moved = np.empty((frames, 3)), np.empty((frames, 2))
    for i in range(frames):
        k = (i + phase) % 5
        comb[i] = [0.02 if name in pattern.smooth.split()[k] else 2 for name in "cpn"]
        moved[i] = [0.02 if name in pattern.still.split()[k] else 6 for name in "tb"]
    comb *= np.exp(noise * chance.standard_normal(comb.shape))
    return Evidence(comb, np.minimum(comb * 40, 128).round(), moved, np.full(frames, 2))


def still(frames: int) -> Evidence:
    return Evidence(
        np.zeros((frames, 3)), np.zeros((frames, 3)), np.zeros((frames, 2)), np.full(frames, 2)
    )


def joined(*parts: Evidence) -> Evidence:
    return Evidence(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def lags(found: Verdict, fields: Any) -> Any:
    """Quarters of a source frame by which the frames kept lag behind, after each source frame."""
    return np.cumsum(np.where(found.use == DROP, 0, 5) - 2 * fields)


@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize("phase", range(5))
def test_a_long_film_is_one_pattern_from_end_to_end(order: str, phase: int) -> None:
    of = telecined(3 * _cadence._BLOCK + 77, phase, order, noise=0.4)
    found = verdict(of)
    drop = next(p.drop for p in PATTERNS if (p.kind, p.order) == ("3:2", order))
    gone = np.flatnonzero(found.use == DROP)
    assert set((gone + phase) % 5) == {drop}
    assert set(np.diff(gone)) == {5}
    assert (found.state != NONE).all()


def test_blocks_decide_as_the_whole_would(monkeypatch: pytest.MonkeyPatch) -> None:
    of = joined(
        telecined(333), still(90), laced(83), telecined(210, 3), telecined(41, 1, "bff"), laced(9),
        telecined(300),
    )  # fmt: skip
    monkeypatch.setattr(_cadence, "_BLOCK", 10_000)
    whole = verdict(of)
    for block in (1, 7, 64, 333):
        monkeypatch.setattr(_cadence, "_BLOCK", block)
        assert all(np.array_equal(a, b) for a, b in zip(verdict(of), whole, strict=True))


def test_a_scene_without_movement_keeps_the_phase() -> None:
    found = verdict(joined(telecined(100), still(1000), telecined(100)))
    assert set(np.flatnonzero(found.use == DROP) % 5) == {2}


def test_a_still_film_is_thinned_evenly() -> None:
    gone = np.flatnonzero(verdict(still(5000)).use == DROP)
    assert set(np.diff(gone)) == {5}


def laced(frames: int) -> Evidence:
    """True fields: every weave is a comb."""
    chance = np.random.default_rng(frames)
    return Evidence(
        1 + chance.random((frames, 3)), np.full((frames, 3), 90.0), 4 + chance.random((frames, 2)),
        np.full(frames, 2),
    )  # fmt: skip


def begins(of: Evidence) -> Evidence:
    """The same where the film begins: its first frame has nothing to be compared with."""
    for measures in of[:3]:
        measures[0] = 0
    return of


@pytest.mark.parametrize("phase", range(5))
def test_a_first_frame_whose_other_field_is_lost_is_mended(phase: int) -> None:
    """Top of C, bottom of D: the bottom of C was shown before the film began."""
    found = verdict(begins(telecined(50, phase)))
    lost = phase == 3  # of "A A  B B  B C  C D  D D"; that of phase 2 is dropped
    assert int(found.use[0]) == (DROP if phase == 2 else COMBED if lost else AS_CODED)


def test_a_film_that_begins_with_true_fields_is_mended_from_its_first_frame() -> None:
    found = verdict(begins(joined(laced(60), telecined(60))))
    assert set(found.use[:50].tolist()) == {DROP, COMBED}
    assert int(found.use[0]) == COMBED


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 400),
    seed=st.integers(0, 2**32 - 1),
    parts=st.integers(1, 9),
    soft=st.booleans(),
)
def test_whatever_is_seen_the_clock_is_kept(frames: int, seed: int, parts: int, soft: bool) -> None:
    """Telecine in changing phases, noise, stills, and repeat flags, in any mixture."""
    chance = np.random.default_rng(seed)
    pieces = []
    for _ in range(parts):
        count = int(chance.integers(1, frames // parts + 2))
        kind = chance.integers(0, 3)
        piece = still(count) if kind == 0 else telecined(count, int(chance.integers(0, 5)))
        if kind == 2:
            piece = piece._replace(
                comb=chance.random((count, 3)) * 9, moved=chance.random((count, 2)) * 9
            )
        if soft and chance.random() < 0.4:
            piece = piece._replace(fields=2 + (np.arange(count) + chance.integers(0, 2)) % 2)
        pieces.append(piece)
    of = joined(*pieces)
    found = verdict(of)
    late = lags(found, of.fields)
    assert np.abs(late).max() <= _cadence.SLACK
    assert abs(int(late[-1])) < 5, "the film is longer or shorter by a frame"
    kept = int((found.use != DROP).sum())
    assert kept >= 1
    assert abs(kept * 5 - int(of.fields.sum()) * 2) < 5


def test_frames_that_cannot_fill_their_time_are_refused() -> None:
    of = still(30)._replace(fields=np.full(30, 3))
    with pytest.raises(ValueError, match="fills the time"):
        verdict(of)
