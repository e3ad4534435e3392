"""A small model in the catalogue, for tests: the real rooms, with files of some hundred KB."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import sys
from pathlib import Path

from longtake.weights import catalog, download
from longtake.weights.catalog import Model, Repository, WeightFile

SEED = {"v1.0": 1, "v1.1": 2}
TABLES = {
    "net": {"blocks.0.weight": (160, 200), "blocks.0.bias": (160,)},
    "decoder": {"decoder.1.weight": (8, 4, 3, 3)},
    "prompt": {"prompt": (1, 4, 16)},
}
NAMES = {"net": "net.safetensors", "decoder": "Decoder.ckpt", "prompt": "prompt.pth"}


def contents(version: str) -> dict[str, bytes]:
    """The official files by name: safetensors, a pickle with more than is used, a bare tensor."""
    import torch
    from safetensors.torch import save

    made = torch.Generator().manual_seed(SEED[version])
    values = {
        role: {k: torch.randn(s, generator=made) for k, s in table.items()}
        for role, table in TABLES.items()
    }
    decoder = {**values["decoder"], "encoder.0.weight": torch.zeros(3), "step": 7}
    return {
        "net.safetensors": save(values["net"]),
        "Decoder.ckpt": pickled({"state_dict": decoder, "epoch": 3}),
        "prompt.pth": pickled(values["prompt"]["prompt"].bfloat16()),
    }


def pickled(value: object) -> bytes:
    import torch

    into = io.BytesIO()
    torch.save(value, into)
    return into.getvalue()


def model(version: str, known: dict[str, bytes] | None = None) -> Model:
    """A version; of the files in `known` size and sha256 are published."""
    known = known or {}
    files = tuple(
        WeightFile(
            role=role,
            name=name,
            table=lambda role=role: dict(TABLES[role]),
            licence="MIT" if role == "decoder" else "Apache-2.0",
            bytes=len(known[name]) if name in known else None,
            sha256=hashlib.sha256(known[name]).hexdigest() if name in known else None,
            more=role == "decoder",
        )
        for role, name in NAMES.items()
    )
    return Model(
        family="toy", version=version, about="a toy", files=files,
        hf=Repository(name=f"makers/toy-{version}", revision="main"), modelscope=None,
    )  # fmt: skip


def with_digests(version: str, digests: list[str]) -> Model:
    """A version whose sizes are unknown but whose hashes are published."""
    plain = model(version)
    files = (dataclasses.replace(f, sha256=d) for f, d in zip(plain.files, digests, strict=True))
    return dataclasses.replace(plain, files=tuple(files))


def main() -> None:
    """`longtake` with the toys in its catalogue: python -c "..." HASHES... -- weights ..."""
    from longtake.cli.main import main as longtake

    at = sys.argv.index("--")
    digests, words = sys.argv[1:at], sys.argv[at + 1 :]
    download.PAUSES = (0.01,)
    for version in ("v1.0", "v1.1"):
        known = digests and version == "v1.1"
        toy = with_digests(version, digests) if known else model(version)
        catalog.MODELS[toy.name] = toy
    longtake(words)


def write(folder: Path, version: str) -> Path:
    """The official files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in contents(version).items():
        (folder / name).write_bytes(body)
    return folder
