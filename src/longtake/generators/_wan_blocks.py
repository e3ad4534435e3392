"""The transformer of Wan 2.1 from block files, with matrices of 8 bits where they hold such."""

from __future__ import annotations

import mmap
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from longtake.core.blocks import Slab
from longtake.generators._wan_files import config_of
from longtake.nets.linear import kinds_of, quantized
from longtake.nets.wan.dit import DiT
from longtake.weights.blocks import BlockFiles
from longtake.weights.reader import Weights, open_weights


def load(path: Path, home: str, *, streamed: bool) -> tuple[DiT, DiT]:
    """The conditioner and the rest, at `home`, in the dtypes that are stored. `streamed`: blocks of
    the rest stay where they are, and its `block_source` reads them; close that. Raises BadInput."""
    source = BlockFiles(path)
    try:
        config = config_of(source.description)
        with torch.device("meta"):
            conditioner, transformer = DiT(replace(config, layers=0)), DiT(config)
        transformer.release()
        kinds = kinds_of((field.name, field.dtype) for field in source.slab.fields)
        layers = range(config.layers)
        quantized(
            transformer, {f"blocks.{i}.{k}": kind for i in layers for k, kind in kinds.items()}
        )
        with open_weights(source.rest) as rest:
            _filled(conditioner, rest, home, {})
            _filled(transformer, rest, home, _blocks(transformer, source, home, streamed))
    except BaseException:
        source.close()
        raise
    if streamed:
        cast(Any, transformer).block_source = source
    else:
        source.close()
    return conditioner.eval(), transformer.eval()


def _filled(net: DiT, rest: Weights, home: str, there: dict[str, Tensor]) -> None:
    state = {
        key: there[key] if key in there else rest.tensor(key).to(home) for key in net.state_dict()
    }
    net.load_state_dict(state, assign=True)


def _blocks(net: DiT, source: BlockFiles, home: str, streamed: bool) -> dict[str, Tensor]:
    """The blocks' tensors, under the net's names; on meta where they are streamed."""
    if streamed:
        return {k: v for k, v in net.state_dict().items() if k.startswith("blocks.")}
    found: dict[str, Tensor] = {}
    for number in range(source.count):
        memory = mmap.mmap(-1, source.slab.bytes)
        source.read(number, memoryview(memory))
        for name, tensor in _views(
            source.slab, torch.frombuffer(memory, dtype=torch.uint8)
        ).items():
            found[f"blocks.{number}.{name}"] = tensor.to(home)
    return found


def _views(slab: Slab, memory: Tensor) -> dict[str, Tensor]:
    return {
        field.name: memory[field.offset : field.offset + field.bytes]
        .view(getattr(torch, field.dtype))
        .view(field.shape)
        for field in slab.fields
    }
