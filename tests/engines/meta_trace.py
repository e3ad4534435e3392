"""Peak bytes of a forward pass, told by running it on meta tensors: shapes only, no memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Live(TorchDispatchMode):
    """Counts the storages that operations make, until nobody holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if _is(x)}
        made = op(*args, **(kwargs or {}))
        for x in filter(_is, tree_leaves(made)):
            storage = x.untyped_storage()
            key = storage._cdata
            if key not in given and key not in self._known:
                self._known.add(key)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._gone, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return made

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _is(x: Any) -> bool:
    return isinstance(x, Tensor)


def peak(work: Callable[[], Any]) -> int:
    """Bytes that live at once among what `work` makes, its result included."""
    with _Live() as live:
        held = work()
    del held
    return live.peak
