"""What the tensors of a file of umT5's encoder are called, and the sizes they tell. No torch here.

    official       models_t5_umt5-xxl-enc-bf16.pth: our names
    transformers   UMT5EncoderModel of that library, which ComfyUI's files follow

Sources: https://github.com/Wan-Video/Wan2.1, wan/modules/t5.py;
https://github.com/huggingface/transformers, models/umt5/modeling_umt5.py;
https://github.com/comfyanonymous/ComfyUI, comfy/text_encoders/wan.py (`spiece_model`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from longtake.nets._live import Shape
from longtake.nets.umt5_needs import UmT5Config, tensors

TABLE: Final = "token_embedding.weight"
"""Our key of the tokens' rows."""
TRANSFORMERS: Final = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
"""The parts of a block in UMT5EncoderModel."""
_EMBEDDINGS: Final = ("shared.weight", "encoder.embed_tokens.weight")  # one tensor by two names
MARKS: Final = (TABLE, *_EMBEDDINGS)
"""One of these is in every such file."""
_TOKENIZER: Final = "spiece_model"
_SHOWN: Final = 6


@dataclass(frozen=True, slots=True)
class Found:
    """What a file holds."""

    config: UmT5Config
    names: dict[str, tuple[str]]
    """Our key -> the file's, as `longtake.nets.names` takes it."""


def read(shapes: Mapping[str, Shape]) -> Found:
    """The net that a file's tensors are for, and their names. Raises ValueError with the keys that
    are missing, unknown or of another shape, in the file's own names."""
    official = TABLE in shapes
    if not official and not any(key in shapes for key in _EMBEDDINGS):
        raise ValueError(
            f"among {len(shapes)} tensors there is none of the name {TABLE} (official) or "
            f"{' or '.join(_EMBEDDINGS)} (transformers): this is no umT5"
        )
    config = _config(shapes, official=official)
    wanted = tensors(config)
    other = {} if official else names(config, shapes)
    table = {key: other.get(key, (key,)) for key in wanted}
    known = {theirs for (theirs,) in table.values()}
    wrong = [
        *(f"{theirs} is missing" for (theirs,) in table.values() if theirs not in shapes),
        *(f"{key} is unknown" for key in shapes if key not in known and not useless(key)),
        *(
            f"{table[key][0]} is {list(shapes[table[key][0]])} instead of {list(shape)}"
            for key, shape in wanted.items()
            if table[key][0] in shapes and tuple(shapes[table[key][0]]) != shape
        ),
    ]
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError("; ".join(wrong[:_SHOWN]) + more)
    return Found(config, table)


def _config(shapes: Mapping[str, Shape], *, official: bool) -> UmT5Config:
    """Raises ValueError."""
    first = "blocks.0." if official else "encoder.block.0."

    def size(part: str) -> tuple[int, int]:
        key = f"{first}{part if official else TRANSFORMERS[part]}.weight"
        found = shapes.get(key)
        if found is None:
            raise ValueError(f"{key} is missing: the sizes of the net cannot be told")
        if len(found) != 2 or not all(found):
            raise ValueError(f"{key} is {list(found)}: it must be a matrix")
        return found[0], found[1]

    buckets, heads = size("pos_embedding.embedding")
    rows, dim = size("attn.q")
    table = TABLE if official else next(key for key in _EMBEDDINGS if key in shapes)
    if len(shapes[table]) != 2:
        raise ValueError(f"{table} is {list(shapes[table])}: it must be a matrix")
    prefix = "blocks." if official else "encoder.block."
    numbers = {k[len(prefix) :].partition(".")[0] for k in shapes if k.startswith(prefix)}
    return UmT5Config(
        vocabulary=shapes[table][0], dim=dim, heads=heads, head_dim=rows // heads,
        ffn_dim=size("ffn.fc1")[0], layers=len(numbers), buckets=buckets,
    )  # fmt: skip


def names(config: UmT5Config, keys: Collection[str]) -> dict[str, tuple[str]]:
    """Where the parameters lie in a file of UMT5EncoderModel with these keys."""
    first, second = _EMBEDDINGS
    table = {
        TABLE: (first if first in keys or second not in keys else second,),
        "norm.weight": ("encoder.final_layer_norm.weight",),
    }
    for i in range(config.layers):
        for ours, theirs in TRANSFORMERS.items():
            table[f"blocks.{i}.{ours}.weight"] = (f"encoder.block.{i}.{theirs}.weight",)
    return table


def useless(key: str) -> bool:
    """Whether such a file may hold that tensor beside those of `names`: the embedding once more, or
    ComfyUI's tokenizer."""
    return key in _EMBEDDINGS or key == _TOKENIZER
