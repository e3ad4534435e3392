"""Nets of Wan 2.1 from block files, with matrices of 8 bits where they hold such."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from longtake.core.blocks import Field, Slab
from longtake.generators._wan_files import config_of, text_config_of
from longtake.nets.linear import kinds_of, quantized
from longtake.nets.umt5 import StoredRows, UmT5
from longtake.nets.umt5_keys import TABLE
from longtake.nets.wan.dit import DiT
from longtake.weights.blocks import BlockFiles
from longtake.weights.quantize import dequantize, per_row
from longtake.weights.reader import Weights, open_weights

Net = TypeVar("Net", bound=nn.Module)
_ALIGNED = 64  # bytes, as torch allocates


def load(path: Path, home: str, *, streamed: bool) -> tuple[DiT, DiT]:
    """The transformer's conditioner and its rest, at `home`, in the dtypes that are stored.
    `streamed`: blocks of the rest stay where they are, and its `block_source` reads them; close
    that. Raises BadInput."""
    with _Opened(path, "transformer") as opened:
        config = config_of(opened.source.description)
        with torch.device("meta"):
            conditioner, transformer = DiT(replace(config, layers=0)), DiT(config)
        transformer.release()
        opened.fill(conditioner, home, blocks=False)
        return conditioner.eval(), opened.filled(transformer, home, streamed=streamed)


def load_text(path: Path, home: str, *, streamed: bool) -> UmT5:
    """The text encoder likewise; the table of tokens stays in its file."""
    with _Opened(path, "text") as opened:
        config = text_config_of(opened.source.description)
        with torch.device("meta"):
            net = UmT5(config)
        net.token_embedding = StoredRows(rows_of(opened.source.rest, TABLE))
        return opened.filled(net, home, streamed=streamed)


def rows_of(
    path: Path, key: str, dtype: torch.dtype | None = None, scale: str | None = None
) -> Callable[[Tensor], Tensor]:
    """Reads rows of a matrix where it lies in a file, which is mapped each time: the host holds no
    more than the pages that rows are on. `scale`: key of the scales of a matrix in 8 bits."""

    def read(ids: Tensor) -> Tensor:
        with open_weights(path) as weights:
            matrix = weights.tensor(key)
            if matrix.dtype.itemsize > 1:
                return matrix[ids].to(dtype=dtype)
            rows = matrix.view(torch.uint8)[ids].view(matrix.dtype)
            scales = torch.ones(()) if scale is None else weights.tensor(scale)
            scales = scales if scales.numel() == 1 else per_row(scales, len(matrix))[ids]
            return dequantize(rows, scales).to(dtype=dtype)

    return read


class _Opened:
    """Block files, which are closed unless a net reads them from then on."""

    def __init__(self, path: Path, role: str) -> None:
        """Raises BadInput."""
        self.source = BlockFiles(path, role=role)
        self._kept = False

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._kept or error[0] is not None:
            self.source.close()

    def filled(self, net: Net, home: str, *, streamed: bool) -> Net:
        """The net, on meta before, with 8-bit layers where the files have them."""
        kinds = kinds_of((field.name, field.dtype) for field in self.source.slab.fields)
        layers = range(self.source.count)
        quantized(net, {f"blocks.{i}.{k}": kind for i in layers for k, kind in kinds.items()})
        self.fill(net, home, blocks=True, streamed=streamed)
        if streamed:
            cast(Any, net).block_source = self.source
            self._kept = True
        return net.eval()

    def fill(self, net: nn.Module, home: str, *, blocks: bool, streamed: bool = False) -> None:
        there = _blocks(self.source, home, streamed) if blocks else {}
        with open_weights(self.source.rest) as rest:
            _fill(net, rest, home, there)


def _fill(net: nn.Module, rest: Weights, home: str, there: dict[str, Tensor]) -> None:
    state = {
        key: there[key] if key in there else aligned(rest.tensor(key).to(home))
        for key in net.state_dict()
    }
    net.load_state_dict(state, assign=True)


def aligned(tensor: Tensor) -> Tensor:
    """Not where it happens to lie in a mapped file: libraries sum in another order from there."""
    return tensor if tensor.data_ptr() % _ALIGNED == 0 else tensor.clone()


def _blocks(source: BlockFiles, home: str, streamed: bool) -> dict[str, Tensor]:
    """The blocks' tensors, under the net's names; on meta where they are streamed."""
    if streamed:
        with torch.device("meta"):
            like = {f.name: torch.empty(f.shape, dtype=_dtype(f)) for f in source.slab.fields}
        return {f"blocks.{i}.{k}": v for i in range(source.count) for k, v in like.items()}
    found: dict[str, Tensor] = {}
    for number in range(source.count):
        memory = mmap.mmap(-1, source.slab.bytes)
        source.read(number, memoryview(memory))
        for name, tensor in _views(
            source.slab, torch.frombuffer(memory, dtype=torch.uint8)
        ).items():
            found[f"blocks.{number}.{name}"] = tensor.to(home)
    return found


def _dtype(field: Field) -> torch.dtype:
    found: torch.dtype = getattr(torch, field.dtype)
    return found


def _views(slab: Slab, memory: Tensor) -> dict[str, Tensor]:
    return {
        field.name: memory[field.offset : field.offset + field.bytes]
        .view(_dtype(field))
        .view(field.shape)
        for field in slab.fields
    }
