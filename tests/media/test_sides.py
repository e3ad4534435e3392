"""Which frames of two films meet, and on what scale their luma is counted."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.media import sheet
from longtake.media.likeness import COLUMNS, Bins, Likeness, Tally
from longtake.media.sides import Scale, Shown, pairs
from longtake.media.stills import Choice, embedded, png

BLANK = av.VideoFrame(16, 16, "gray")


def shown(times: list[float], end: float) -> list[Shown]:
    edges = [*times, end]
    return [
        Shown(number=i, time=Fraction(a), end=Fraction(b), picture=BLANK)
        for i, (a, b) in enumerate(pairwise(edges))
    ]


def met(a: list[Shown], b: list[Shown], step: int = 1) -> list[tuple[int, int, bool]]:
    return [(p.a.number, p.b.number, p.judged) for p in pairs(iter(a), iter(b), Fraction(step))]


def test_equal_clocks() -> None:
    film = shown([0, 1, 2], 3)
    assert met(film, film) == [(0, 0, True), (1, 1, True), (2, 2, True)]


def test_a_higher_rate_shows_all_its_frames_and_judges_each_frame_of_a_once() -> None:
    assert met(shown([0, 2], 4), shown([0, 1, 2, 3], 4)) == [
        (0, 0, True), (0, 1, False), (1, 2, True), (1, 3, False),
    ]  # fmt: skip
    assert met(shown([0, 1, 2, 3], 4), shown([0, 2], 4)) == [
        (0, 0, True), (1, 0, True), (2, 1, True), (3, 1, True),
    ]  # fmt: skip


def test_a_long_frame_stays_until_the_next() -> None:
    assert met(shown([0, 1, 2, 3], 4), shown([0, 3], 4)) == [
        (0, 0, True), (1, 0, True), (2, 0, True), (3, 1, True),
    ]  # fmt: skip


def test_only_the_common_time_counts() -> None:
    assert met(shown([0, 1, 2, 3], 4), shown([2, 3, 4, 5], 6)) == [(2, 0, True), (3, 1, True)]
    assert met(shown([0, 1], 2), shown([5, 6], 7)) == []
    assert met(shown([5, 6], 7), shown([0, 1], 2)) == []
    assert met([], shown([0], 1)) == []
    assert met(shown([0], 1), []) == []


@given(st.lists(st.integers(-4, 4), min_size=2, max_size=20))
def test_jitter_below_half_a_frame_changes_nothing(jitter) -> None:
    count = len(jitter)
    plain = shown([10.0 * i for i in range(count)], 10.0 * count)
    moved = shown([10.0 * i + j for i, j in enumerate(jitter)], 10.0 * count + 5)
    judged = [(a, b) for a, b, j in met(plain, moved, 10) if j]
    assert judged == [(i, i) for i in range(count)]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=30),
    st.lists(st.integers(1, 9), min_size=1, max_size=30),
    st.integers(-40, 40),
)
def test_times_never_run_back_and_no_frame_is_judged_twice(steps_a, steps_b, offset) -> None:
    a = shown(list(np.cumsum([0, *steps_a[:-1]])), sum(steps_a))
    b = shown([offset + t for t in np.cumsum([0, *steps_b[:-1]])], offset + sum(steps_b))
    found = list(pairs(iter(a), iter(b), Fraction(2)))
    judged = [p.a.number for p in found if p.judged]
    assert judged == sorted(set(judged))
    assert judged == list(range(judged[0], judged[-1] + 1)) if judged else True
    order = [(p.a.number, p.b.number) for p in found]
    assert order == sorted(order)


@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("size", [(97, 65), (8, 8), (320, 180)])
def test_psnr_is_its_definition(bits, size) -> None:
    random = np.random.default_rng(bits)
    scale = Scale(matrix=1, full=False, bits=bits)
    likeness = Likeness(size, scale)
    kind = np.uint8 if bits == 8 else np.uint16
    for spread in (0, 1, 40):
        a = random.integers(0, scale.peak + 1, size[::-1]).astype(kind)
        noise = random.integers(-spread, spread + 1, a.shape)
        b = np.clip(a.astype(int) + noise, 0, scale.peak).astype(kind)
        mse = np.mean((a.astype(float) - b) ** 2) / scale.peak**2
        mark = likeness.mark(a, b)
        assert mark.mse == pytest.approx(mse, rel=1e-4, abs=1e-11)
        assert mark.ssim is not None
        assert (mark.ssim == 1) == (spread == 0) or bits == 16


def test_a_picture_too_small_for_ssim_still_has_a_psnr() -> None:
    likeness = Likeness((6, 4), Scale(matrix=1, full=False, bits=8))
    mark = likeness.mark(np.zeros((4, 6), np.uint8), np.full((4, 6), 255, np.uint8))
    assert (mark.psnr, mark.ssim) == (0, None)


def test_bins_stay_few_and_keep_extremes() -> None:
    random = np.random.default_rng(3)
    values = random.normal(40, 3, 100_000)
    values[77_777] = -5
    bins = Bins()
    for value in values:
        bins.add(float(value))
    curve = bins.curve()
    assert COLUMNS <= len(curve) <= 2 * COLUMNS
    assert min(low for low, _, _ in curve) == -5
    assert max(high for _, _, high in curve) == values.max()
    weights = [row[3] for row in bins.rows]
    mean = sum(m * w for (_, m, _), w in zip(curve, weights, strict=True)) / sum(weights)
    assert mean == pytest.approx(values.mean())
    assert Tally().ssim is None


def test_the_worst_frames_are_kept_apart_and_no_more_than_asked() -> None:
    random = np.random.default_rng(5)
    marks = random.uniform(20, 50, 5000)
    marks[1234], marks[1235], marks[4000] = 5, 4, 6
    choice: Choice[int] = Choice(spread=(Fraction(1), Fraction(2)), apart=Fraction(1))
    for number, mark in enumerate(marks):
        choice.see(number, Fraction(number, 25), float(mark), number)
        assert len(choice._low) <= 3
    chosen = choice.chosen()
    assert {25, 50, 1235, 4000} <= {s.number for s in chosen}
    assert 1234 not in {s.number for s in chosen}
    assert next(s for s in chosen if s.number == 1235).why == "the worst frame"


def test_stills_come_back_as_they_were() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    kind, body = embedded(rgb)
    assert kind == "image/webp"
    for codec, data in (("png", png(rgb)), ("webp", body)):
        decoder = av.CodecContext.create(codec, "r")
        frame = [*decoder.decode(av.Packet(data)), *decoder.decode(None)][0]
        assert np.array_equal(frame.to_ndarray(format="rgb24"), rgb)
    kind, body = embedded(np.zeros((1600, 2000, 3), np.uint8))
    assert (kind, body[:2]) == ("image/jpeg", b"\xff\xd8")


def test_views_stay_within_what_browsers_play() -> None:
    assert sheet.cell((1920, 1080), 2, 1) == (1920, 1080)
    assert sheet.cell((3840, 2160), 2, 1) == (1920, 1080)
    assert sheet.cell((1080, 1920), 2, 2) == (606, 1080)
    assert sheet.cell((5, 3), 1, 1) == (4, 2)
    assert sheet.arranged(2) == (2, 1)
    assert sheet.arranged(4) == (2, 2)
    assert sheet.arranged(9) == (3, 3)


def test_labels_are_legible_and_cut_to_their_view() -> None:
    picture = np.full((360, 640, 3), 128, np.uint8)
    sheet.label(picture, "A film with a very long name indeed " * 9, 0, 0, (320, 360))
    assert (picture[:, 320:] == 128).all()
    assert set(np.unique(picture)) == {32, 128, 235}
    tiny = np.full((16, 16, 3), 128, np.uint8)
    sheet.label(tiny, "A", 0, 0, (16, 16))
    assert (tiny == 128).all()
