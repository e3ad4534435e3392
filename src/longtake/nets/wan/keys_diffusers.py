"""The names of the transformer's tensors in the layout of the library diffusers.

Source: https://github.com/huggingface/diffusers, src/diffusers/models/transformers/
transformer_wan.py and scripts/convert_wan_to_diffusers.py. Note that `norm2` of a block there is
`norm3` officially. `norm_added_q` is in published image-to-video files and has no use.
"""

from __future__ import annotations

import re
from typing import Final

from longtake.nets.wan.keys import Layout

_EMBEDDERS = "condition_embedder"
_REST: Final = {
    "patch_embedding": "patch_embedding",
    f"{_EMBEDDERS}.text_embedder.linear_1": "text_embedding.0",
    f"{_EMBEDDERS}.text_embedder.linear_2": "text_embedding.2",
    f"{_EMBEDDERS}.time_embedder.linear_1": "time_embedding.0",
    f"{_EMBEDDERS}.time_embedder.linear_2": "time_embedding.2",
    f"{_EMBEDDERS}.time_proj": "time_projection.1",
    f"{_EMBEDDERS}.image_embedder.norm1": "img_emb.proj.0",
    f"{_EMBEDDERS}.image_embedder.ff.net.0.proj": "img_emb.proj.1",
    f"{_EMBEDDERS}.image_embedder.ff.net.2": "img_emb.proj.3",
    f"{_EMBEDDERS}.image_embedder.norm2": "img_emb.proj.4",
    "scale_shift_table": "head.modulation",
    "proj_out": "head.head",
}
_BLOCK: Final = {
    "scale_shift_table": "modulation",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    **{
        f"{theirs}.{part}": f"{ours}.{name}"
        for theirs, ours in (("attn1", "self_attn"), ("attn2", "cross_attn"))
        for part, name in (
            ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "o"),
            ("norm_q", "norm_q"), ("norm_k", "norm_k"),
        )
    },
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "attn2.norm_added_k": "cross_attn.norm_k_img",
}  # fmt: skip
_PARTS: Final = re.compile(r"(blocks\.\d+\.)?(.+?)(\.weight|\.bias)?")


def _translated(key: str, rest: dict[str, str], block: dict[str, str]) -> str | None:
    found = _PARTS.fullmatch(key)
    if not found:
        return None
    at, layer, kind = found.groups(default="")
    name = (block if at else rest).get(layer)
    return None if name is None else f"{at}{name}{kind}"


_THEIR_REST: Final = {ours: theirs for theirs, ours in _REST.items()}
_THEIR_BLOCK: Final = {ours: theirs for theirs, ours in _BLOCK.items()}


def _ours(name: str) -> str | None:
    return _translated(name, _REST, _BLOCK)


def _theirs(key: str) -> str:
    name = _translated(key, _THEIR_REST, _THEIR_BLOCK)
    if name is None:
        raise KeyError(key)
    return name


DIFFUSERS: Final = Layout(
    name="diffusers",
    mark="condition_embedder.time_proj.weight",
    ours=_ours,
    theirs=_theirs,
    useless=lambda name: name.endswith(".attn2.norm_added_q.weight"),
)
