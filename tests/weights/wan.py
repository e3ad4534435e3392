"""Small models of Wan 2.1 in the catalogue, for tests: official names, keys and layouts."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

from longtake.nets.wan.keys import named
from longtake.nets.wan.keys_diffusers import DIFFUSERS
from longtake.nets.wan.sizes import DiTConfig
from longtake.weights import catalog, tables
from longtake.weights.catalog import Model, Repository, WeightFile
from tests.weights.toy import pickled

CONFIG = DiTConfig(dim=128, heads=1, layers=3, ffn_dim=192, text_dim=24)
I2V = DiTConfig(dim=128, heads=1, layers=2, ffn_dim=192, text_dim=24, enter=36, image_dim=40)
TEXT = {"vocabulary": 32, "dim": 16, "ffn": 24, "layers": 2, "heads": 4}
TOKENIZER = b'{"version": "1.0", "model": {}}'


def table(config: DiTConfig = CONFIG) -> tables.Table:
    return tables.wan_transformer(
        dim=config.dim, ffn=config.ffn_dim, layers=config.layers, text=config.text_dim,
        image=config.image_dim,
    )  # fmt: skip


def model(version: str = "toy", shards: int = 1, config: DiTConfig = CONFIG) -> Model:
    """The transformer in so many files, a text encoder and a tokenizer; no hash is published."""
    plain = replace(catalog._WAN_1_3B, table=lambda: table(config), bytes=None, sha256=None)
    transformer = (plain,) if shards == 1 else catalog._shards(lambda: table(config), shards)
    others = (
        WeightFile(
            role="text", name="models_t5.pth", table=lambda: tables.umt5(**TEXT),
            licence="Apache-2.0", in_blocks=True,
        ),
        WeightFile(
            role="tokenizer", name="google/umt5-xxl/tokenizer.json", table=dict,
            licence="Apache-2.0", holds="none",
        ),
    )  # fmt: skip
    return Model(
        family="wan", version=version, about="a toy", files=(*transformer, *others),
        hf=Repository(name="makers/wan-toy", revision="main"), modelscope=None,
    )  # fmt: skip


def values(seed: int = 0, config: DiTConfig = CONFIG, table_: tables.Table | None = None):
    """Random tensors, float32."""
    import torch

    made = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(shape, generator=made) * 0.02
        for key, shape in (table_ or table(config)).items()
    }


def write(
    folder: Path, of: Model, seed: int = 0, config: DiTConfig = CONFIG, diffusers: bool = False
) -> Path:
    """The official files of a model in a folder; neighbours among keys lie in different shards."""
    from safetensors.torch import save_file

    state = values(seed, config)
    if diffusers:
        names = named(config, DIFFUSERS)
        state = {names[key][0]: value for key, value in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    shards = [f.name for f in of.of_role("transformer") if f.holds != "none"]
    keys = sorted(state)
    where = {key: shards[i % len(shards)] for i, key in enumerate(keys)}
    for name in shards:
        save_file({k: v for k, v in state.items() if where[k] == name}, folder / name)
    if len(shards) > 1:
        index = {"metadata": {}, "weight_map": where}
        name = "diffusion_pytorch_model.safetensors.index.json"
        (folder / name).write_text(json.dumps(index))
    text = values(9, table_=tables.umt5(**TEXT))
    (folder / "models_t5.pth").write_bytes(pickled({k: v.bfloat16() for k, v in text.items()}))
    (folder / "google/umt5-xxl").mkdir(parents=True, exist_ok=True)
    (folder / "google/umt5-xxl/tokenizer.json").write_bytes(TOKENIZER)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """Of all files in a folder, but for those that are about one machine."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("seen.json", "manifest.json", ".lock")
    }


def main() -> None:
    """`longtake` with the toys in its catalogue: three shards, and the same in one file."""
    from longtake.cli.main import main as longtake

    for toy in (model("toy", 3), model("other", 3), model("single")):
        catalog.MODELS[toy.name] = toy
    longtake(sys.argv[1:])
