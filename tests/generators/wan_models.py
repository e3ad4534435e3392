"""Small models of Wan 2.1 in files of the official names, or as the diffusers library has them."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.core.media import Pixels
from longtake.engines._parts import Parts
from longtake.generators._wan_load import Dtypes, load
from longtake.nets import clip_vision, umt5_keys
from longtake.nets.clip_vision import ClipVision
from longtake.nets.clip_vision_needs import ClipConfig
from longtake.nets.taehv import Taehv
from longtake.nets.taehv_needs import TaehvConfig
from longtake.nets.umt5 import UmT5
from longtake.nets.umt5_needs import UmT5Config
from longtake.nets.wan import vae_names
from longtake.nets.wan.dit import DiT
from longtake.nets.wan.sizes import DiTConfig
from longtake.nets.wan.vae import VaeConfig, WanVae
from longtake.weights import catalog, tables
from tests.nets.formula import formula
from tests.nets.oracles import filled, handed, library
from tests.nets.wan.dits import as_published, by_formula

T2V = DiTConfig(dim=128, heads=1, layers=2, ffn_dim=96, text_dim=24, freq_dim=32)
I2V = replace(T2V, enter=36, image_dim=80)
TEXT = UmT5Config(vocabulary=400, dim=24, heads=2, head_dim=8, ffn_dim=40, layers=2, buckets=16)
CLIP = ClipConfig(image=32, patch=8, dim=80, heads=1, ffn_dim=96, layers=2)
VAE = VaeConfig(base=4)
TAEHV = TaehvConfig(widths=(12, 10, 8, 6))
EXACT = Dtypes(
    transformer=torch.float32, text=torch.float32, image=torch.float32, vae=torch.float32
)  # fmt: skip
CPU = torch.device("cpu")
torch.set_num_threads(1)  # nets are tiny: threads would only wait for each other
Files = dict[str, list[Path]]


@dataclass(frozen=True)
class Nets:
    dit: DiT
    text: UmT5
    image: ClipVision
    vae: WanVae
    taehv: Taehv


def nets(config: DiTConfig, seed: int = 0) -> Nets:
    dit = DiT(config).eval()
    by_formula(dit, seed)
    made = (filled(UmT5(TEXT)), filled(ClipVision(CLIP)), filled(WanVae(VAE)), filled(Taehv(TAEHV)))
    return Nets(dit, *made)


def official(folder: Path, made: Nets) -> Files:
    """As Wan publishes them; the files hold what their models have beyond our nets."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = replace(CLIP, layers=CLIP.layers + 1)
    image = filled(ClipVision(whole)).state_dict() | made.image.state_dict()
    image |= {"log_scale": torch.ones(()), "textual.head.weight": torch.ones(2, 2)}
    image |= {"visual.post_norm.weight": torch.ones(80), "visual.head": torch.ones(80, 4)}
    tiny = made.taehv.state_dict() | {"encoder.0.weight": torch.ones(3)}
    stored = {
        "transformer": ("diffusion_pytorch_model.safetensors", made.dit.state_dict()),
        "text": ("models_t5_umt5-xxl-enc-bf16.pth", made.text.state_dict()),
        "image": ("models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth", image),
        "vae": ("Wan2.1_VAE.pth", made.vae.state_dict()),
        "taehv": ("taew2_1.pth", tiny),
    }
    files: Files = {}
    for role, (name, state) in stored.items():
        written(folder / name, state)
        files[role] = [folder / name]
    return files


def written(path: Path, state: dict[str, Tensor]) -> None:
    plain = {key: value.detach().clone() for key, value in state.items()}
    if path.suffix == ".safetensors":
        save_file(plain, path)
    else:
        torch.save(plain, path)


def in_fp8(
    state: dict[str, Tensor], name: str, is_matrix: Any, **more: Tensor
) -> dict[str, Tensor]:
    """As communities scale them: one scale for a matrix of a block, under that name."""
    made: dict[str, Tensor] = dict(more)
    for key, value in state.items():
        inside = key.split(".", 2)[-1]
        if key.startswith("blocks.") and is_matrix(inside, tuple(value.shape)):
            scale = value.abs().amax() / 448
            made[key] = (value / scale).to(torch.float8_e4m3fn)
            made[f"{key.removesuffix('weight')}{name}"] = scale
        else:
            made[key] = value
    return made


def theirs(made: Nets) -> dict[str, Any]:
    """Modules of the libraries with the nets' weights, by role."""
    diffusers, transformers = library("diffusers"), library("transformers")
    text = transformers.UMT5EncoderModel(
        transformers.UMT5Config(
            vocab_size=TEXT.vocabulary,
            d_model=TEXT.dim,
            d_kv=TEXT.head_dim,
            d_ff=TEXT.ffn_dim,
            num_layers=TEXT.layers,
            num_heads=TEXT.heads,
            relative_attention_num_buckets=TEXT.buckets,
            relative_attention_max_distance=TEXT.reach,
            feed_forward_proj="gated-gelu",
        )
    )
    image = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=CLIP.dim,
            intermediate_size=CLIP.ffn_dim,
            num_hidden_layers=CLIP.layers + 1,
            num_attention_heads=CLIP.heads,
            image_size=CLIP.image,
            patch_size=CLIP.patch,
            hidden_act="gelu",
        )
    )
    vae = diffusers.AutoencoderKLWan(base_dim=VAE.base)
    return {
        "transformer": as_published(made.dit),
        "text": handed(made.text, umt5_keys.names(TEXT, text.state_dict()), text),
        "image": handed(made.image, clip_vision.names(CLIP, image.state_dict()), image),
        "vae": handed(made.vae, vae_names.names(VAE), vae),
    }


def shards(folder: Path, modules: dict[str, nn.Module], count: int = 3) -> Files:
    """As the diffusers library stores them: each in several safetensors files."""
    files: Files = {}
    for role, module in modules.items():
        state = list(
            {k: v for k, v in module.state_dict().items() if "embed_tokens" not in k}.items()
        )
        (folder / role).mkdir(parents=True)
        for number in range(count):
            path = folder / role / f"model-{number + 1:05}-of-{count:05}.safetensors"
            written(path, dict(state[number::count]))
            files.setdefault(role, []).append(path)
    return files


def opened(folder: Path, config: DiTConfig, seed: int = 0) -> Parts:
    """From official files, in float32."""
    return load(official(folder, nets(config, seed)), EXACT, "cpu")


def picture(width: int, height: int) -> Pixels:
    values = formula((height, width, 3), 4).add(1).mul(127.5).round()
    return values.numpy().astype(np.uint8)


def words(count: int, seed: int = 0) -> Tensor:
    """An embedding of a prompt."""
    return 2 * formula((count, T2V.text_dim), 50 + seed)


# --- tokenizer -----------------------------------------------------------------------------------

CORPUS = (
    "a cat walks through tall grass at dusk, slow camera, soft light",
    "two dogs run along the beach; waves break behind them",
    "一只猫在草地上奔跑，镜头缓慢推进",
    "an astronaut rides a horse on the moon, 4k, cinematic",
)


def small_clip() -> catalog.Model:
    """The published image model, whose file of CLIP is as small as ours."""
    known = catalog.model("wan-i2v-14b-480p")
    table = tables.clip_vision(CLIP.dim, CLIP.ffn_dim, CLIP.layers, CLIP.patch, CLIP.image)
    files = (
        replace(file, table=lambda: table, bytes=None, sha256=None) if file.narrows else file
        for file in known.files
    )
    return replace(known, files=tuple(files))


def main() -> None:
    """`longtake` with that in its catalogue."""
    from longtake.cli.main import main as longtake

    catalog.MODELS["wan-i2v-14b-480p"] = small_clip()
    longtake(sys.argv[1:])


def tokenizer_json(path: Path) -> Path:
    """A Unigram tokenizer with umT5's special tokens and its end behind every text. Its pieces are
    counted, not trained: the library's trainer breaks ties in another order each time."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = [f"▁{word}" for line in CORPUS for word in line.split()]
    parts = Counter(
        w[i : i + size] for w in words for size in range(1, 7) for i in range(len(w) - size + 1)
    )
    common = sorted(parts, key=lambda part: (len(part) > 1, -parts[part] * len(part), part))[:297]
    pieces = [(part, math.log(parts[part] / len(words)) - 1) for part in common]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *pieces]
    rules = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    rules.add_special_tokens(["<pad>", "</s>", "<unk>"])
    rules.normalizer = normalizers.NFKC()
    rules.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    rules.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    rules.save(str(path))
    return path
