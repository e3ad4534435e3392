"""Matrices in 8 bits: a scale per row (output channel) and, for each value, an 8-bit number.

int8 is symmetric: the largest value of a row becomes +-127, rounded to the nearest, halves to even.
fp8 is float8_e4m3fn with the largest value of a row at 448, the format's own; without a scale small
weights fall among its subnormal numbers and lose most of their digits. Everything is computed in
float32 on the CPU, so that the same matrix gives the same bytes everywhere.

Sources: https://arxiv.org/abs/1712.05877 (symmetric, per channel), https://arxiv.org/abs/2209.05433
(E4M3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from longtake.core.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

QUANTS: Final[Mapping[str, str | None]] = {"none": None, "int8": "int8", "fp8": "float8_e4m3fn"}
"""What matrices can be brought into: by its short name, the dtype."""
SCALE: Final = "weight_scale"
EIGHT_BITS: Final = frozenset({"int8", "float8_e4m3fn"})
NARROW: Final = EIGHT_BITS | {"float8_e5m2"}
"""All that a matrix may come in."""
_LARGEST: Final = {"int8": 127.0, "float8_e4m3fn": 448.0}
_THEIRS: Final = (".scale_weight", f".{SCALE}")
_USELESS: Final = (".scale_input", ".input_scale")
_MARK: Final = "scaled_fp8"


def quantize(matrix: Tensor, dtype: str, name: str = "the matrix") -> tuple[Tensor, Tensor]:
    """A matrix [out, in] as 8-bit numbers [out, in] and scales float32 [out], whose product it is
    but for rounding. A row of zeros has the scale 1. Raises BadInput for values that are no
    numbers."""
    import torch

    exact = matrix.float()
    largest = exact.abs().amax(dim=1)
    if not bool(torch.isfinite(largest).all()):
        rows = int((~torch.isfinite(largest)).sum())
        raise BadInput(f"{name} holds NaN or infinity in {rows} of {len(largest)} rows.")
    most = _LARGEST[dtype]
    scale = largest / most
    scale[scale == 0] = 1.0
    scaled = exact.div_(scale[:, None]) if exact is not matrix else exact / scale[:, None]
    if dtype == "int8":
        scaled.round_()
    return scaled.clamp_(-most, most).to(getattr(torch, dtype)), scale


def dequantize(numbers: Tensor, scale: Tensor) -> Tensor:
    """float32 [out, in] of 8-bit numbers [out, in] and scales [out], [out, 1] or one for all."""
    return numbers.float().mul_(per_row(scale, len(numbers))[:, None])


def per_row(scale: Tensor, rows: int) -> Tensor:
    """Scales as float32 [rows]. Raises BadInput."""
    if scale.numel() == 1:
        return scale.float().reshape(1).expand(rows).contiguous()
    if scale.numel() != rows or max(scale.shape) != rows:
        raise BadInput(
            f"Scales of shape {list(scale.shape)} are not known for a matrix of {rows} rows: one "
            f"scale, or one for each row."
        )
    return scale.float().reshape(rows).contiguous()


def scales_in(keys: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """Of a file's keys: the key of the scales by that of their matrix, as ComfyUI (`scale_weight`)
    and LightX2V (`weight_scale`) name them; and all keys that are no weights."""
    present = set(keys)
    scales = {
        f"{key.removesuffix(ending)}.weight": key
        for key in present
        for ending in _THEIRS
        if key.endswith(ending) and f"{key.removesuffix(ending)}.weight" in present
    }
    more = {k for k in present if k.endswith(_USELESS) or k.rpartition(".")[2] == _MARK}
    return scales, more | set(scales.values())


def without_scales(kinds: Mapping[str, str], scales: Mapping[str, str], *, raw: bool) -> str | None:
    """Why tensors (key -> dtype) of which some have scales (key -> theirs) are refused: some are in
    8 bits and have none. int8 means nothing without; fp8 is taken if `raw`."""
    bare = sorted(k for k, dtype in kinds.items() if dtype in NARROW and k not in scales)
    whole = [key for key in bare if kinds[key] == "int8"]
    if whole:
        return f"{whole[0]} is int8, and there are no scales for it"
    if raw or not bare:
        return None
    return (
        f"{len(bare)} tensors are {kinds[bare[0]]} without scales, the first is {bare[0]}. So "
        f"small weights have lost most of their digits (19 dB of signal to noise instead of 31 "
        f"where they spread by 0.005). Take a file with scales (`scale_weight` or `weight_scale`)"
    )
