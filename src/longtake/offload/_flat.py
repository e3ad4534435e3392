"""Tensors of a module as one run of bytes, and modules whose tensors are views of such a run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longtake.core.blocks import VALUE_BYTES, Slab, slab
from longtake.core.errors import BadInput

Named = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Flat:
    """How tensors lie in a run of bytes, and how they are read from there."""

    slab: Slab
    kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...], tuple[int, ...]]]
    """dtype, shape and strides."""

    def views(self, memory: Tensor) -> dict[str, Tensor]:
        """The tensors in `memory`, uint8 [slab.bytes], by name."""
        found = {}
        for field in self.slab.fields:
            dtype, shape, strides = self.kinds[field.name]
            part = memory[field.offset : field.offset + field.bytes]
            found[field.name] = part.view(dtype).as_strided(shape, strides)
        return found

    def placed(self, slab: Slab) -> Flat:
        """Some of the tensors, where another slab has them."""
        return Flat(slab, self.kinds)

    def fill(self, memory: Tensor, tensors: Named) -> None:
        """Write the values of tensors of these names there."""
        for name, view in self.views(memory).items():
            view.copy_(tensors[name])


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once."""
    return dict([*module.named_parameters(), *module.named_buffers()])


def flat(tensors: Named) -> Flat:
    """In this order and with these strides, but for tensors with gaps, which are closed."""
    laid = slab((name, *_field(x)) for name, x in tensors.items())
    kinds = {k: (x.dtype, tuple(x.shape), _strides(x)) for k, x in tensors.items()}
    return Flat(laid, kinds)


def flat_as_stored(stored: Slab, tensors: Named) -> Flat:
    """As a source of blocks lays out these tensors. Raises BadInput where it has others."""
    theirs = {field.name: (field.dtype, field.shape) for field in stored.fields}
    ours = {name: _field(x) for name, x in tensors.items()}
    differing = sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))
    if differing:
        name = differing[0]
        raise BadInput(
            f"The stored blocks are of another net: {len(differing)} tensors differ, the first is "
            f"{name}: stored {theirs.get(name, 'nothing')}, wanted {ours.get(name, 'nothing')}."
        )
    kinds = {k: (x.dtype, tuple(x.shape), _compact(tuple(x.shape))) for k, x in tensors.items()}
    return Flat(stored, kinds)


def shell(block: nn.Module, views: Named) -> nn.Module:
    """A copy of the block that has these tensors for its own; no bytes are copied. Those of other
    names are empty, so that nothing can be computed with them."""
    placed: dict[int, Any] = {}
    for name, tensor in tensors_of(block).items():
        view = views[name] if name in views else torch.empty(0, dtype=tensor.dtype)
        parameter = isinstance(tensor, nn.Parameter)
        placed[id(tensor)] = nn.Parameter(view, requires_grad=False) if parameter else view
    return copy.deepcopy(block, placed)


def empty(module: nn.Module) -> None:
    """Let go of the module's values. Its tensors are others from now on: a view keeps what it was
    made of, even where its `data` is replaced."""
    for part in module.modules():
        for name, own in part._parameters.items():
            if own is not None:
                part._parameters[name] = nn.Parameter(own.new_empty(0), requires_grad=False)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = value.new_empty(0)


def become(tensors: Named, views: Named | Callable[[Tensor], Tensor]) -> None:
    """Let the tensors lie elsewhere: in views of these names, or in what is made of them. Raises
    RuntimeError for those made in inference mode, which PyTorch could not use afterwards."""
    for name, tensor in tensors.items():
        if tensor.is_inference():
            raise RuntimeError(f"{name} was made in inference mode, so it cannot be moved")
        tensor.data = views(tensor.data) if callable(views) else views[name]


def differing(blocks: Iterable[nn.Module]) -> str | None:
    """In what the blocks differ besides their values; None: any of them can compute for all."""
    first, *others = ({"": block, **dict(block.named_modules())} for block in blocks)
    for number, modules in enumerate(others, 1):
        if list(modules) != list(first):
            return f"block {number} has other modules than block 0"
        for name, module in modules.items():
            if found := _other(first[name], module):
                return f"{found} of block {number}{name and '.' + name} is not that of block 0"
    return None


_TENSORS = {"_parameters", "_buffers", "_modules"}


def _other(a: nn.Module, b: nn.Module) -> str | None:
    if type(a) is not type(b):
        return "the type"
    for key in vars(a).keys() | vars(b).keys():
        if key not in _TENSORS and not _same(vars(a).get(key), vars(b).get(key)):
            return key
    for table in ("_parameters", "_buffers"):
        ours, theirs = (
            {
                k: v is not None and (v.dtype, v.shape, _strides(v))
                for k, v in vars(x)[table].items()
            }
            for x in (a, b)
        )
        if ours != theirs:
            return "a tensor"
    return None


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b
    return a is b or bool(a == b)


def _field(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    """dtype and shape in a slab; of a dtype that slabs do not know, its bytes."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    return (dtype, tuple(tensor.shape)) if dtype in VALUE_BYTES else ("uint8", (tensor.nbytes,))


def _strides(tensor: Tensor) -> tuple[int, ...]:
    """The tensor's own where it has no gaps."""
    expected = 1
    for step, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length != 1 and step != expected:
            return _compact(tuple(tensor.shape))
        expected *= length
    return tuple(tensor.stride())


def _compact(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Last axis fastest."""
    steps, step = [], 1
    for length in reversed(shape):
        steps.append(step)
        step *= max(length, 1)
    return tuple(reversed(steps))
