"""FlashVSR's files of weights: which ones a job needs, and what sizes of nets they hold. No torch.

A safetensors file says its shapes in its header. A pickle does not without being run through, and
is taken to hold the official sizes; opening it tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from longtake.core.errors import BadInput
from longtake.core.media import Knobs
from longtake.weights import catalog, files, home
from longtake.weights.tables import PROMPT, Table

HEAD_DIM: Final = 128
_ONCE: Final = ("text_embedding.", "time_embedding.", "time_projection.")
_TELLING: Final = {  # tensors whose shapes are asked for, by role
    "transformer": (
        "patch_embedding.weight", "text_embedding.0.weight", "time_embedding.0.weight",
        "blocks.0.modulation", "blocks.0.ffn.0.weight",
    ),
    "projection": ("conv1.weight", "conv2.weight", "linear_layers.0.weight"),
    "decoder": tuple(f"decoder.{i}.weight" for i in (1, 10, 16, 22)),
    "vae": ("decoder.head.0.gamma",),
    "prompt": (PROMPT,),
}  # fmt: skip
_ONCE_PER_BLOCK: Final = (".cross_attn.k.", ".cross_attn.v.", ".cross_attn.norm_k.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where the nets of one job lie, by role."""

    transformer: Path
    projection: Path
    decoder: Path  # TCDecoder, or the VAE for mode full
    prompt: Path

    def __iter__(self) -> Iterator[Path]:
        yield from (self.transformer, self.projection, self.decoder, self.prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Tensors by name, and the heads of the transformer, which no shape tells."""

    transformer: Table
    projection: Table
    decoder: Table
    prompt: Table
    heads: int


def model_of(knobs: Knobs) -> str:
    return f"flashvsr-v{knobs['version']}"


def decoder_role(knobs: Knobs) -> str:
    return "decoder" if knobs["mode"] == "tiny" else "vae"


def find(knobs: Knobs) -> Files:
    """Raises WeightsMissing, with the command to run, or BadInput."""
    name, given = model_of(knobs), str(knobs["folder"])
    folder = Path(given).expanduser() if given else None

    def path(role: str) -> Path:
        return home.find(name, role, folder)

    return Files(
        transformer=path("transformer"),
        projection=path("projection"),
        decoder=path(decoder_role(knobs)),
        prompt=path("prompt"),
    )


def official(knobs: Knobs) -> Shapes:
    """What the published files hold."""
    model = catalog.model(model_of(knobs))
    transformer = model.file("transformer").table()
    return Shapes(
        transformer=transformer,
        projection=model.file("projection").table(),
        decoder=model.file(decoder_role(knobs)).table(),
        prompt=model.file("prompt").table(),
        heads=transformer["patch_embedding.weight"][0] // HEAD_DIM,
    )


def shapes(found: Files, knobs: Knobs) -> Shapes:
    """Raises BadInput for a file that is damaged."""
    model = catalog.model(model_of(knobs))

    def table(path: Path, role: str) -> Table:
        if path.suffix != ".safetensors":
            return model.file(role).table()
        header = files.header(path)
        found = {k: tuple(v["shape"]) for k, v in header.items() if k != "__metadata__"}
        if lacking := [key for key in _TELLING[role] if key not in found]:
            raise BadInput(f"{path} is not the {role} of {model.name}: {lacking[0]} is missing.")
        return found

    transformer = table(found.transformer, "transformer")
    return Shapes(
        transformer=transformer,
        projection=table(found.projection, "projection"),
        decoder=table(found.decoder, decoder_role(knobs)),
        prompt=table(found.prompt, "prompt"),
        heads=_heads(found.transformer, transformer),
    )


def layers(transformer: Table) -> int:
    return sum(key.endswith(".modulation") and key.startswith("blocks.") for key in transformer)


def once(key: str) -> bool:
    """Whether a tensor of the transformer is needed only before the first frame."""
    return key.startswith(_ONCE) or any(part in key for part in _ONCE_PER_BLOCK)


def only_encodes(key: str) -> bool:
    """Whether a tensor of the VAE is for encoding, which nobody does here."""
    return key.startswith(("encoder.", "conv1."))


def _heads(path: Path, transformer: Table) -> int:
    """As the file's metadata says, else by the official width of a head."""
    said = files.header(path).get("__metadata__", {}).get("heads")
    dim = transformer["patch_embedding.weight"][0]
    if said is None and dim % HEAD_DIM:
        raise BadInput(
            f"{path} holds a transformer of width {dim}, which is no multiple of {HEAD_DIM}, and "
            f"its metadata does not say how many heads it has."
        )
    return int(said) if said is not None else dim // HEAD_DIM
