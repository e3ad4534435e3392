"""The models whose weights are fetched: which files, what is in them, where they come from.

A new model is an entry here, and nothing else. Sizes and sha256 are those that Hugging Face
publishes for its large files and that several projects have written down; where they are not known
(FlashVSR v1.0, the shards of Wan's 14B models, distilled ones, TAEHV), the hash that the host names
when a file is fetched is taken, or else the one that is seen then (trust on first use), and it is
kept in the manifest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final, Literal

from longtake.core.errors import Usage
from longtake.weights import tables
from longtake.weights.tables import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A place on a hub: OWNER/NAME at a branch, tag or commit."""

    name: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file of a model."""

    role: str  # by which an engine asks for it; files of one role belong together
    name: str  # of the official file, with its folder: "google/umt5-xxl/tokenizer.json"
    table: Callable[[], Table]  # key -> shape of the tensors in it
    licence: str
    bytes: int | None = None  # None: not known
    sha256: str | None = None  # None: not known
    url: str | None = None  # where it is no part of the repositories on Hugging Face
    repository: Repository | None = None  # on Hugging Face, where it is not the model's
    more: bool = False  # whether the file may hold tensors that nobody uses
    holds: Literal["all", "some", "none"] = "all"
    """Which of the table's tensors: all; some, where the files of its role share them; or none,
    where it is no file of tensors."""
    in_blocks: bool = False  # whether `convert` makes block files of what its role holds
    narrows: str | None = None
    """Begins the names of the tensors among which `convert` can bring matrices into 8 bits."""

    @property
    def converted(self) -> str:
        """Name of the file after `longtake weights convert`."""
        return f"{self.role}/{BLOCKS}" if self.in_blocks else self._safe

    @property
    def names(self) -> tuple[str, ...]:
        """By which it may lie in a folder, the one to take first: block files stand for a role, one
        that may be in 8 bits for the official one, else that for what was made of it."""
        whole, first = (self.name, self._safe), self.in_blocks or self.narrows is not None
        return tuple(dict.fromkeys((self.converted, *whole) if first else whole))

    @property
    def _safe(self) -> str:
        if self.holds == "none":
            return self.name
        return PurePosixPath(self.name).with_suffix(".safetensors").name


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One version of a model. Versions share names and shapes, so they are never guessed."""

    family: str
    version: str  # v1.1
    about: str
    hf: Repository  # on Hugging Face
    modelscope: Repository | None
    files: tuple[WeightFile, ...]
    folder: str | None = None
    """Name that a folder of the official files has by itself, where it says the version."""

    @property
    def name(self) -> str:
        return f"{self.family}-{self.version}"

    @property
    def in_blocks(self) -> tuple[str, ...]:
        """Roles that become block files."""
        return tuple(dict.fromkeys(file.role for file in self.files if file.in_blocks))

    @property
    def licences(self) -> str:
        return ", ".join(dict.fromkeys(file.licence for file in self.files))

    def file(self, role: str) -> WeightFile:
        """The first of that role. Raises KeyError."""
        return next((f for f in self.files if f.role == role), None) or _no_role(self, role)

    def of_role(self, role: str) -> tuple[WeightFile, ...]:
        """All of that role. Raises KeyError."""
        return tuple(f for f in self.files if f.role == role) or (_no_role(self, role),)


BLOCKS: Final = "blocks.json"
"""The manifest of a folder of block files."""


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


# --- Wan 2.1 -------------------------------------------------------------------------------------

_UMT5 = "google/umt5-xxl"
_TOKENIZER: Final = {
    "tokenizer.json": (
        16_837_417, "6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b",
    ),
    "spiece.model": (
        4_548_313, "e3909a67b780650b35cf529ac782ad2b6b26e6d1f849d3fbb6a872905f452458",
    ),
    "tokenizer_config.json": (
        61_728, "ed9a3a8b0faa71a70a32847e0435fe036e6e112d4df4edb7bb48a921e344dc05",
    ),
    "special_tokens_map.json": (
        6_623, "7b8a9f5040adb67b5805abdfd42c1f8d0f3d0e711f10726580eb3789cd0ad61d",
    ),
}  # fmt: skip
_BESIDE: Final = (
    WeightFile(
        role="text", name="models_t5_umt5-xxl-enc-bf16.pth", table=tables.umt5, licence=_APACHE,
        bytes=11_361_920_418, in_blocks=True,
        sha256="7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d",
    ),
    WeightFile(
        role="vae", name="Wan2.1_VAE.pth", table=tables.wan_vae, licence=_APACHE,
        bytes=_V11["vae"][0], sha256=_V11["vae"][1],
    ),
    *(
        WeightFile(
            role="tokenizer", name=f"{_UMT5}/{name}", table=dict, licence=_APACHE, bytes=size,
            sha256=digest, holds="none",
        )
        for name, (size, digest) in _TOKENIZER.items()
    ),
)  # fmt: skip
_CLIP: Final = WeightFile(
    role="image", name="models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
    table=tables.clip_vision, licence=_APACHE, bytes=4_772_359_047, more=True,
    narrows="visual.transformer.",
    sha256="628c9998b613391f193eb67ff68da9667d75f492911e4eb3decf23460a158c38",
)  # fmt: skip


def _wan(
    version: str, about: str, revision: str, transformer: tuple[WeightFile, ...], image: bool
) -> Model:
    """Sources: the repositories on Hugging Face, at the commits named here, and those of the same
    names on ModelScope."""
    folder = f"Wan2.1-{version.upper()}"
    hf = Repository(name=f"Wan-AI/{folder}", revision=revision)
    return Model(
        family="wan", version=version, about=about, hf=hf, folder=folder,
        modelscope=replace(hf, revision="master"),
        files=(*transformer, *_BESIDE, *((_CLIP,) if image else ())),
    )  # fmt: skip


def _shards(table: Callable[[], Table], count: int) -> tuple[WeightFile, ...]:
    """The transformer in so many files, and the index that says which tensor is in which."""
    name = "diffusion_pytorch_model"
    index = WeightFile(
        role="transformer", name=f"{name}.safetensors.index.json", table=dict, licence=_APACHE,
        holds="none", in_blocks=True,
    )  # fmt: skip
    shards = (
        WeightFile(
            role="transformer", name=f"{name}-{i:05}-of-{count:05}.safetensors", table=table,
            licence=_APACHE, holds="some", in_blocks=True,
        )
        for i in range(1, count + 1)
    )  # fmt: skip
    return (*shards, index)


_WAN_1_3B: Final = WeightFile(
    role="transformer", name="diffusion_pytorch_model.safetensors", table=tables.wan_transformer,
    licence=_APACHE, bytes=5_676_070_424, in_blocks=True,
    sha256="96b6b242ca1c2f24e9d02cd6596066fab6d310e2d7538f33ae267cb18d957e8f",
)  # fmt: skip
_WAN: Final = (
    _wan(
        "t2v-1.3b", "video from text, 480p", "37ec512624d61f7aa208f7ea8140a131f93afc9a",
        (_WAN_1_3B,), image=False,
    ),
    _wan(
        "t2v-14b", "video from text, 480p and 720p", "a064a6c71f5be440641209c07bf2a5ce7a2ff5e4",
        _shards(tables.wan_t2v_14b, 6), image=False,
    ),
    _wan(
        "i2v-14b-480p", "video from an image and text, 480p",
        "6b73f84e66371cdfe870c72acd6826e1d61cf279", _shards(tables.wan_i2v_14b, 7), image=True,
    ),
    _wan(
        "i2v-14b-720p", "video from an image and text, 720p",
        "8823af45fcc58a8aa999a54b04be9abc7d2aac98", _shards(tables.wan_i2v_14b, 7), image=True,
    ),
)  # fmt: skip

# --- distilled to four steps, by others -----------------------------------------------------------


def _distilled(of: Model, table: Callable[[], Table]) -> Model:
    """Another transformer of a model's own names and shapes, beside the model's other files.

    Source: https://github.com/ModelTC/LightX2V, docs/EN/source/method_tutorials/step_distill.md,
    which names repository and file; neither sizes nor hashes are written down there.
    """
    folder = f"{of.folder}-StepDistill-CfgDistill-Lightx2v"
    transformer = WeightFile(
        role="transformer", name="distill_models/distill_model.safetensors", table=table,
        licence=_APACHE, in_blocks=True,
    )  # fmt: skip
    others = (replace(f, repository=of.hf) for f in of.files if f.role != "transformer")
    return Model(
        family=of.family, version=f"{of.version}-distilled", folder=folder,
        about=f"{of.about}; in 4 steps without guidance (LightX2V)",
        hf=Repository(name=f"lightx2v/{folder}", revision="main"), modelscope=None,
        files=(transformer, *others),
    )  # fmt: skip


_DISTILLED: Final = (
    _distilled(_WAN[1], tables.wan_t2v_14b),
    _distilled(_WAN[2], tables.wan_i2v_14b),
    _distilled(_WAN[3], tables.wan_i2v_14b),
)
_TAEHV_AT: Final = Repository(
    name="madebyollin/taehv", revision="1f14a568f24bf8811e0a0ac601613e04fc1581e8"
)
_TAEHV: Final = Model(
    family="taew", version="2.1", folder="taew2_1",
    about="small decoder for Wan 2.1: quick, other pictures (TAEHV)",
    hf=_TAEHV_AT, modelscope=None,
    files=(
        WeightFile(
            role="taehv", name="taew2_1.pth", table=tables.taew2_1, licence="MIT", more=True,
            url=f"https://raw.githubusercontent.com/{_TAEHV_AT.name}/{_TAEHV_AT.revision}/"
            "taew2_1.pth",
        ),
    ),
)  # fmt: skip

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
        *_WAN,
        *_DISTILLED,
        _TAEHV,
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
    """The version of a family that a folder's name says: "FlashVSR-v1.1" and "v1.1" -> "v1.1",
    "Wan2.1-T2V-14B" -> "t2v-14b"; "FlashVSR" says none."""
    versions = [m for m in MODELS.values() if m.family == family]
    said = {(m.folder or m.name).lower(): m.version for m in versions}
    said |= {m.name.lower(): m.version for m in versions}
    if name.lower() in said or any(m.folder for m in versions):
        return said.get(name.lower())
    pattern = rf"(?:{re.escape(family)}[-_ ]?v?|v)(\d+)[._](\d+)"
    found = re.fullmatch(pattern, name, re.IGNORECASE)
    return f"v{found[1]}.{found[2]}" if found else None
