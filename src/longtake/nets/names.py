"""One net, two libraries: where its parameters lie in a file of the other one's names.

A net is called as its official checkpoint is. For another layout there is a table, ours -> theirs;
where they keep apart what is one tensor here (q, k, v), the table names all, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

Names = Mapping[str, tuple[str, ...]]
"""Ours -> theirs; several are laid one behind the other along the first axis."""

_SHOWN: Final = 5


def adopted(
    net: nn.Module,
    names: Names,
    given: Mapping[str, Tensor],
    unused: Callable[[str], bool] | None = None,
) -> dict[str, Tensor]:
    """The tensors `given` under their names, under ours and in our shapes; views where nothing has
    to be joined. `net` may be on meta. `given` is asked for one key at a time.

    Raises ValueError with the names that are missing, unknown (but for those `unused` says nobody
    needs) or of another size.
    """
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    wanted = {theirs for parts in names.values() for theirs in parts}
    lines = [
        *(f"{key} has no name there" for key in shapes if key not in names),
        *(f"{key} is missing" for key in sorted(wanted - given.keys())),
        *(
            f"{key} is unknown"
            for key in sorted(given.keys() - wanted)
            if unused is None or not unused(key)
        ),
    ]
    if lines:
        raise ValueError(_refusal(net, lines))
    state = {}
    for ours, shape in shapes.items():
        parts = [given[key] for key in names[ours]]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        if whole.numel() != shape.numel():
            lines.append(f"{' + '.join(names[ours])} is {list(whole.shape)} for {list(shape)}")
            continue
        state[ours] = whole.view(shape)
    if lines:
        raise ValueError(_refusal(net, lines))
    return state


def _refusal(net: nn.Module, lines: list[str]) -> str:
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return f"the tensors do not fit {type(net).__name__}: {'; '.join(lines[:_SHOWN])}{more}"
