"""A linear layer whose matrix is kept in 8 bits, and how it is put into a net from outside.

A value is its 8-bit number times the scale of its row (output channel). Some rows at a time are
made as wide as what they are multiplied with, and the product is scaled: right on every device, a
little slower than the layer it stands for, and never with the whole matrix at hand. How matrices
are brought into 8 bits is no matter of nets.
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
ROWS: Final = 2048
"""Of the matrix (output channels) that are made wider at a time."""


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
        found = x.new_empty(*x.shape[:-1], self.out_features)
        for rows in row_chunks(self.out_features):
            self._rows(x, rows, found[..., rows])
        return found

    def _rows(self, x: Tensor, rows: slice, into: Tensor) -> None:
        """bfloat16 and float32 hold an 8-bit number as it is, so that the scale can wait for the
        product, whose sums are float32. Sums of unscaled numbers may be too large for float16."""
        if x.dtype == torch.float16:
            bias = None if self.bias is None else self.bias[rows].to(x.dtype)
            into.copy_(F.linear(x, self.matrix(rows).to(x.dtype), bias))
            return
        made, scale = F.linear(x, self.weight[rows].to(x.dtype)), self.weight_scale[rows]
        if self.bias is None:
            torch.mul(made, scale, out=into)
        else:
            torch.addcmul(self.bias[rows].float(), made, scale, out=into)

    def matrix(self, rows: slice = slice(None)) -> Tensor:
        """Rows of the matrix, float32."""
        return self.weight[rows].float() * self.weight_scale[rows, None]

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"{self.in_features}, {self.out_features}, bias={bias}, {self.weight.dtype}"


def _kept(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


def row_chunks(rows: int) -> list[slice]:
    """Runs of ROWS rows; none has fewer than LEAST_ROWS unless the matrix has."""
    count = max((rows + ROWS - LEAST_ROWS) // ROWS, 1)
    return [slice(i * ROWS, rows if i == count - 1 else (i + 1) * ROWS) for i in range(count)]


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
