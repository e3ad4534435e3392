"""The models whose weights are fetched: which files, what is in them, where they come from.

A new model is an entry here, and nothing else. Sizes and sha256 of FlashVSR v1.1 are those that
Hugging Face publishes for its large files and that several projects have written down; those of
v1.0 are not known, so the hash that the host names when a file is fetched is taken, or else the
one that is seen then (trust on first use), and it is kept in the manifest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from longtake.core.errors import Usage
from longtake.weights import tables
from longtake.weights.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file of a model."""

    role: str  # by which an engine asks for it
    name: str  # of the official file
    table: Callable[[], Table]  # key -> shape of the tensors in it
    licence: str
    bytes: int | None = None  # None: not known
    sha256: str | None = None  # None: not known
    url: str | None = None  # where it is no part of the repositories on Hugging Face
    more: bool = False  # whether the file may hold tensors that nobody uses

    @property
    def converted(self) -> str:
        """Name of the file after `longtake weights convert`."""
        return PurePosixPath(self.name).with_suffix(".safetensors").name


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A place on a hub: OWNER/NAME at a branch, tag or commit."""

    name: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One version of a model. Versions share names and shapes, so they are never guessed."""

    family: str
    version: str  # v1.1
    about: str
    hf: Repository  # on Hugging Face
    modelscope: Repository | None
    files: tuple[WeightFile, ...]

    @property
    def name(self) -> str:
        return f"{self.family}-{self.version}"

    @property
    def licences(self) -> str:
        return ", ".join(dict.fromkeys(file.licence for file in self.files))

    def file(self, role: str) -> WeightFile:
        """Raises KeyError."""
        return next((f for f in self.files if f.role == role), None) or _no_role(self, role)


def _no_role(model: Model, role: str) -> WeightFile:
    raise KeyError(f"{model.name} has no file {role!r}")


_APACHE = "Apache-2.0"
_PROMPT = WeightFile(
    role="prompt",
    name="posi_prompt.pth",
    table=tables.prompt_embedding,
    licence=_APACHE,
    bytes=4_195_504,
    sha256="4601107a11e4e11a936a6b79df579e54dbc99872132bf542151f0ffd65b4b1ef",
    url="https://raw.githubusercontent.com/OpenImagingLab/FlashVSR/"
    "cf910c61a60733e610e9c6e8b607f80c3a6c202b/examples/WanVSR/prompt_tensor/posi_prompt.pth",
)
_Known = dict[str, tuple[int, str]]  # role -> bytes and sha256
_V11: _Known = {
    "transformer": (
        5_676_070_392,
        "bd28180edcf3446c028e32fc6b731a80bf7e4da2ab4caac3186b9499964d37be",
    ),
    "projection": (
        575_694_948,
        "d6d011cdaaba6a52645086caa08fa04124e746f6ca568140a24007591142bfd2",
    ),
    "decoder": (
        189_018_333,
        "e224bdcf2f52745cbf4d393ff5374c2ba09e90285d5d19062d2bf63b915b6161",
    ),
    "vae": (
        507_609_880,
        "38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981",
    ),
}


def _flashvsr(
    version: str, about: str, hf: Repository, modelscope: Repository | None, known: _Known
) -> Model:
    def file(role: str, name: str, table: Callable[[], Table], more: bool = False) -> WeightFile:
        size, digest = known.get(role, (None, None))
        return WeightFile(
            role=role, name=name, table=table, licence=_APACHE, bytes=size, sha256=digest,
            more=more,
        )  # fmt: skip

    transformer = "diffusion_pytorch_model_streaming_dmd.safetensors"
    files = (
        file("transformer", transformer, tables.wan_transformer),
        file("projection", "LQ_proj_in.ckpt", tables.flashvsr_projection),
        file("decoder", "TCDecoder.ckpt", tables.flashvsr_decoder, more=True),
        file("vae", "Wan2.1_VAE.pth", tables.wan_vae),
        _PROMPT,
    )
    return Model(
        family="flashvsr", version=version, about=about, hf=hf, modelscope=modelscope, files=files
    )


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        _flashvsr(
            "v1.1",
            "video upscaling by one diffusion step; steadier than v1.0",
            Repository(
                name="JunhaoZhuang/FlashVSR-v1.1",
                revision="ad1aceeac60dbd288e51acea9096b821a8703bee",
            ),
            Repository(name="kuohao/FlashVSR-v1.1", revision="master"),
            _V11,
        ),
        _flashvsr(
            "v1.0",
            "video upscaling by one diffusion step; the first version",
            Repository(name="JunhaoZhuang/FlashVSR", revision="main"),
            None,
            {},
        ),
    )
}


def model(name: str) -> Model:
    """The model of that name. Raises Usage, which names the near ones."""
    found = MODELS.get(name)
    if found is None:
        near = difflib.get_close_matches(name, MODELS, n=2) or list(MODELS)
        raise Usage(f"There are no weights {name!r} in the catalogue; there are {', '.join(near)}.")
    return found


def version_in(name: str, family: str) -> str | None:
    """The version of a family that a folder's name says: "FlashVSR-v1.1" and "v1.1" -> "v1.1";
    "FlashVSR" says none."""
    pattern = rf"(?:{re.escape(family)}[-_ ]?v?|v)(\d+)[._](\d+)"
    found = re.fullmatch(pattern, name, re.IGNORECASE)
    return f"v{found[1]}.{found[2]}" if found else None
