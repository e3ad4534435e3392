"""A linear layer whose matrix is kept in 8 bits, and how it is put into a net from outside.

A value is its 8-bit number times the scale of its row (output channel). The reference path makes
the matrix again, some rows at a time, and multiplies: right on every device, no faster than the
layer it stands for, and never with the whole matrix at hand. How matrices are brought into 8 bits
is no matter of nets; `same_names` reads what others have done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS: Final[Mapping[str, torch.dtype]] = {
    "int8": torch.int8,
    "float8_e4m3fn": torch.float8_e4m3fn,
}
"""What a matrix is kept in, by name."""
SCALE: Final = "weight_scale"
LEAST_ROWS: Final = 32
"""A product with fewer rows takes other ways through the libraries, and rounds differently."""
_VALUES: Final = 1 << 22  # of the matrix that are made again at a time: 16 MiB in float32


class QuantLinear(nn.Module):
    """x W^T + b. `weight` [out, in] in 8 bits, `weight_scale` float32 [out], `bias` [out] or None;
    none of them is trained."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool, kind: str) -> None:
        """`kind` is one of KINDS. Values are those that happen to lie there."""
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.weight = _kept(torch.empty(outputs, inputs, dtype=KINDS[kind]))
        self.weight_scale = _kept(torch.empty(outputs, dtype=torch.float32))
        self.bias = _kept(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out] in the dtype of x, which `bias` may have or not."""
        chunks = row_chunks(*self.weight.shape)
        if len(chunks) == 1:
            return self._rows(x, chunks[0])
        found = x.new_empty(*x.shape[:-1], self.out_features)
        for rows in chunks:
            found[..., rows] = self._rows(x, rows)
        return found

    def _rows(self, x: Tensor, rows: slice) -> Tensor:
        bias = None if self.bias is None else self.bias[rows].to(x.dtype)
        return F.linear(x, self.matrix(rows).to(x.dtype), bias)

    def matrix(self, rows: slice = slice(None)) -> Tensor:
        """Rows of the matrix, float32."""
        return self.weight[rows].float() * self.weight_scale[rows, None]

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"{self.in_features}, {self.out_features}, bias={bias}, {self.weight.dtype}"


def _kept(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


def row_chunks(rows: int, inputs: int) -> list[slice]:
    """Runs of rows that are made again together; none has fewer than LEAST_ROWS unless the matrix
    has."""
    size = max(_VALUES // inputs // LEAST_ROWS, 1) * LEAST_ROWS
    count = max((rows + size - LEAST_ROWS) // size, 1)
    return [slice(i * size, rows if i == count - 1 else (i + 1) * size) for i in range(count)]


# --- from outside --------------------------------------------------------------------------------


def kinds_of(tensors: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Which layers a set of tensors (name, dtype by name) holds in 8 bits: "ffn.0" -> "int8"."""
    weight = ".weight"
    return {
        name.removesuffix(weight): dtype
        for name, dtype in tensors
        if dtype in KINDS and name.endswith(weight)
    }


def quantized(net: nn.Module, kinds: Mapping[str, str]) -> None:
    """Put a QuantLinear in the place of the layers of these names ("blocks.0.ffn.0" -> "int8") of a
    net on meta. Raises ValueError, and changes nothing, where one is no `nn.Linear` on meta or its
    kind is not known."""
    layers = dict(net.named_modules())
    for name, kind in kinds.items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Linear) or not layer.weight.is_meta:
            found = type(layer).__name__ if layer is not None else "nothing"
            raise ValueError(f"{name} must be a Linear on meta; there is {found} in its place")
        if kind not in KINDS:
            raise ValueError(f"{name} cannot be kept as {kind}; only as {', '.join(KINDS)}")
    for name, kind in kinds.items():
        old = layers[name]
        assert isinstance(old, nn.Linear)
        with torch.device("meta"):
            new = QuantLinear(
                old.in_features, old.out_features, bias=old.bias is not None, kind=kind
            )
        if new.bias is not None:
            new.bias.data = new.bias.data.to(old.bias.dtype)
        above, _, own = name.rpartition(".")
        setattr(net.get_submodule(above), own, new.train(old.training))


# --- files of others -----------------------------------------------------------------------------

_THEIRS: Final = ("scale_weight", SCALE)
_USELESS: Final = ("scale_input", "input_scale", "scaled_fp8")
"""For matrices of tokens in 8 bits as well, which are not made here; and a mark of the format."""


def same_names(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a community's file with 8-bit matrices under the names and in the shapes that
    QuantLinear has; what it does not need is left out, all else stays as it is.

    ComfyUI writes `scale_weight`, LightX2V and newer ComfyUI files `weight_scale`; one scale for
    the whole matrix, or one per row, [out] or [out, 1]. Raises ValueError for others. Sources:
    https://github.com/comfyanonymous/ComfyUI, comfy/ops.py (scaled_fp8_ops);
    https://github.com/ModelTC/LightX2V, lightx2v/common/ops/mm/mm_weight.py.
    """
    state: dict[str, Tensor] = {}
    for name, value in given.items():
        layer, _, own = name.rpartition(".")
        if own in _USELESS:
            continue
        matrix = given.get(f"{layer}.weight" if layer else "weight")
        if own in _THEIRS and matrix is not None:
            state[f"{layer}.{SCALE}" if layer else SCALE] = _per_row(name, value, matrix.shape[0])
        else:
            state[name] = value
    return state


def _per_row(name: str, scale: Tensor, rows: int) -> Tensor:
    """A scale or scales as float32 [rows]."""
    if scale.numel() == 1:
        return scale.float().reshape(1).expand(rows).contiguous()
    if scale.numel() != rows or max(scale.shape) != rows:
        raise ValueError(f"{name} is {list(scale.shape)}: one scale or one for each of {rows} rows")
    return scale.float().reshape(rows).contiguous()
