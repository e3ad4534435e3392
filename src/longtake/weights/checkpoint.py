"""Open a checkpoint: build the net on meta, assign the stored tensors, strictly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from longtake.core.errors import BadInput

if TYPE_CHECKING:
    from torch import nn

    Net = TypeVar("Net", bound=nn.Module)


def load(build: Callable[[], Net], path: Path) -> Net:
    """The net that `build` makes, with the tensors of the safetensors file `path` and no copy of
    its own. Parameter names must be the file's, all of them. Raises BadInput."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with torch.device("meta"):
        net = build()
    try:
        net.load_state_dict(load_file(path), assign=True)
    except (RuntimeError, SafetensorError, OSError) as error:
        raise BadInput(
            f"{path} does not hold the weights of {type(net).__name__}: {error}"
        ) from None
    return net.eval()
