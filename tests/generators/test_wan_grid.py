"""Which films Wan can make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.core.errors import Usage
from longtake.generators._wan_grid import frames_of, latent_frames, latent_size


@given(latents=st.integers(1, 10_000))
def test_frames_and_latents_are_each_other_s(latents: int) -> None:
    assert latent_frames(frames_of(latents)) == latents


def test_a_film_of_81_frames_at_480p() -> None:
    assert latent_frames(81) == 21
    assert latent_size((832, 480)) == (104, 60)


@pytest.mark.parametrize("frames", [-3, 0, 2, 80, 82, 84])
def test_other_numbers_of_frames_are_refused_with_the_next_ones(frames: int) -> None:
    with pytest.raises(Usage, match=f"frames={frames}: .* take ") as refused:
        latent_frames(frames)
    named = [
        int(word.strip(".")) for word in str(refused.value).split() if word.strip(".").isdigit()
    ]
    near = [n for n in named if n not in (1, 4)] or named
    assert all(latent_frames(n) for n in near)


@pytest.mark.parametrize(("size", "near"), [((830, 480), "832 x 480"), ((8, 7), "16 x 16")])
def test_sides_that_are_no_whole_tokens_are_refused(size: tuple[int, int], near: str) -> None:
    with pytest.raises(Usage, match=near):
        latent_size(size)
