"""Rotary position embedding: the official tables, any position, only differences matter."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.nets.rope import angles, axis_dims, grid_rotation, rotate
from tests.nets.flashvsr.goldens import SMALL, difference, golden

CPU = torch.device("cpu")


def test_it_turns_as_the_official_code_does() -> None:
    stored, meta = golden("rope", SMALL)
    frames, height, width = meta["grid"]
    times = range(meta["f_offset"], meta["f_offset"] + frames)
    turns = grid_rotation(times, height, width, meta["head_dim"], CPU).flatten(0, 2)
    x = stored["apply.x"].view(-1, meta["heads"], meta["head_dim"])
    assert difference(rotate(x, turns).view(1, -1, 256), stored["apply.y"]) <= 1e-6


@pytest.mark.parametrize("head_dim", [128, 32])
def test_angles_are_those_of_the_official_tables(head_dim) -> None:
    stored, _ = golden("rope", SMALL)
    for axis, dim in zip("fhw", axis_dims(head_dim), strict=True):
        wanted = stored[f"head{head_dim}.{axis}.sin"]
        made = angles(range(len(wanted)), dim).sin()
        torch.testing.assert_close(made, wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("time", [1024, 100_000, 10_000_000])
def test_times_have_no_end(time) -> None:
    made = grid_rotation(range(time, time + 1), 1, 1, 128, CPU).imag[0, 0, 0, :22]
    wanted = [math.sin(time * 10000 ** (-2 * j / 44)) for j in range(22)]
    torch.testing.assert_close(made, torch.tensor(wanted), atol=1e-6, rtol=0)


@settings(max_examples=20, deadline=None)
@given(shift=st.integers(0, 5000), apart=st.integers(0, 40))
def test_only_differences_of_position_matter(shift, apart) -> None:
    q, k = torch.randn(2, 1, 1, 128, dtype=torch.float64).unbind(0)

    def product(first: int, second: int) -> float:
        turned = [
            rotate(x, turns.flatten(0, 2))
            for x, turns in (
                (q, grid_rotation(range(first, first + 1), 1, 1, 128, CPU)),
                (k, grid_rotation(range(second, second + 1), 1, 1, 128, CPU)),
            )
        ]
        return float((turned[0] * turned[1]).sum())

    assert product(shift, shift + apart) == pytest.approx(product(0, apart), abs=1e-4)


def test_bfloat16_is_turned_in_float32() -> None:
    turns = grid_rotation(range(7, 9), 8, 8, 128, CPU).flatten(0, 2)
    x = torch.randn(128, 3, 128).bfloat16()
    assert torch.equal(rotate(x, turns), rotate(x.float(), turns).bfloat16())


def test_a_head_that_cannot_be_dealt_out_is_refused() -> None:
    with pytest.raises(ValueError, match="64"):
        axis_dims(64)
