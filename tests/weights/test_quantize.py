"""How near 8-bit matrices are to the exact ones, and what they must be bit for bit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from longtake.core.errors import BadInput
from longtake.weights.quantize import dequantize, per_row, quantize, scales_in

KINDS = ("int8", "float8_e4m3fn")
each_kind = pytest.mark.parametrize("kind", KINDS)


def gaussian(sigma: float, rows: int = 256, columns: int = 1024) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(7)) * sigma


def snr(exact: Tensor, found: Tensor) -> float:
    """dB."""
    return 20 * math.log10(exact.norm() / (found - exact).norm())


@pytest.mark.parametrize("sigma", [0.05, 0.01, 0.005])
def test_signal_to_noise(sigma: float) -> None:
    """With scales it does not depend on how small weights are; without, it falls with them."""
    exact = gaussian(sigma)
    assert snr(exact, dequantize(*quantize(exact, "int8"))) >= 40
    scaled = snr(exact, dequantize(*quantize(exact, "float8_e4m3fn")))
    raw = snr(exact, exact.to(torch.float8_e4m3fn).float())
    assert scaled >= 30
    falls = {0.05: (0, 2), 0.01: (5, 9), 0.005: (10, 15)}[sigma]
    assert falls[0] < scaled - raw < falls[1]


@each_kind
def test_rows_are_independent_and_scaling_by_powers_of_two_is_exact(kind: str) -> None:
    exact = gaussian(0.02, 64, 96)
    numbers, scale = quantize(exact, kind)
    factors = 2.0 ** torch.arange(-32, 32)
    again, scaled = quantize(exact * factors[:, None], kind)
    assert torch.equal(again.view(torch.uint8), numbers.view(torch.uint8))
    assert torch.equal(scaled, scale * factors)
    some, _ = quantize(exact[10:20], kind)
    assert torch.equal(some.view(torch.uint8), numbers[10:20].view(torch.uint8))


@each_kind
def test_no_value_is_further_off_than_half_a_step(kind: str) -> None:
    exact = gaussian(0.02, 64, 512)
    numbers, scale = quantize(exact, kind)
    found = dequantize(numbers, scale)
    if kind == "int8":
        step = scale[:, None].expand_as(exact)
        assert int(numbers.max()) == 127
        assert int(numbers.min()) >= -127
    else:  # three digits behind the point: 2^-3 of the power of two below, at least 2^-9
        power = torch.floor(torch.log2((exact / scale[:, None]).abs().clamp(min=2**-6)))
        step = 2.0 ** (power - 3) * scale[:, None]
        assert torch.equal(numbers.float().abs().amax(1), torch.full((64,), 448.0))
    assert bool(((found - exact).abs() <= step * 0.5001).all())


def test_halves_go_to_even() -> None:
    row = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -127.0]])
    numbers, scale = quantize(row, "int8")
    assert scale.tolist() == [1.0]
    assert numbers.tolist() == [[127, 0, 2, 2, 0, -2, -127]]


@each_kind
def test_zeros_stay_zeros_and_the_matrix_stays_as_it_is(kind: str) -> None:
    matrix = gaussian(0.02, 4, 8)
    matrix[2] = 0
    before = matrix.clone()
    numbers, scale = quantize(matrix, kind)
    assert torch.equal(matrix, before)
    assert scale[2] == 1
    assert not dequantize(numbers, scale)[2].any()
    both = quantize(matrix.bfloat16(), kind)
    assert torch.equal(both[1], quantize(matrix.bfloat16().float(), kind)[1])


@each_kind
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(kind: str, value: float) -> None:
    matrix = gaussian(0.02, 4, 8)
    matrix[1, 3] = value
    with pytest.raises(BadInput, match=r"blocks\.0\.ffn\.0\.weight holds NaN.*1 of 4 rows"):
        quantize(matrix, kind, "blocks.0.ffn.0.weight")


def test_scales_of_others() -> None:
    keys = ["a.weight", "a.scale_weight", "b.weight", "b.weight_scale", "b.input_scale",
            "c.weight", "c.bias", "scaled_fp8", "d.scale_weight"]  # fmt: skip
    scales, more = scales_in(keys)
    assert scales == {"a.weight": "a.scale_weight", "b.weight": "b.weight_scale"}
    assert more == {"a.scale_weight", "b.weight_scale", "b.input_scale", "scaled_fp8"}
    assert per_row(torch.tensor(0.5), 3).tolist() == [0.5] * 3
    assert per_row(torch.ones(3, 1), 3).shape == (3,)
    with pytest.raises(BadInput, match=r"\[3, 2\].*3 rows"):
        per_row(torch.ones(3, 2), 3)
