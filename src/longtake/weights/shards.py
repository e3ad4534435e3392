"""Which files of a folder are one checkpoint. No torch here."""

from __future__ import annotations

import json
import re
from pathlib import Path

from longtake.core.errors import BadInput
from longtake.weights.catalog import Model

_INDEX = ".index.json"
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")


def together(path: Path) -> tuple[Path, ...]:
    """All files of the checkpoint that a file, a shard or an index belongs to; some may be missing.
    Raises BadInput."""
    if path.name.endswith(_INDEX):
        try:
            names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
            bare = all(isinstance(name, str) and Path(name).name == name for name in names)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{path} is no index of a checkpoint ({error}).") from None
        if not bare or not names:
            raise BadInput(f"{path} is no index of a checkpoint: it names no files beside it.")
        return tuple(path.with_name(name) for name in sorted(names))
    found = _SHARD.fullmatch(path.name)
    if found is None:
        return (path,)
    stem, count = found[1], found[2]
    return tuple(
        path.with_name(f"{stem}-{i:05}-of-{count}.safetensors") for i in range(1, int(count) + 1)
    )


def others(folder: Path, model: Model) -> list[tuple[Path, ...]]:
    """Checkpoints in a folder that have none of the model's names: what a community made."""
    official = {name for file in model.files for name in file.names}
    found = sorted(p for p in folder.glob("*.safetensors") if p.name not in official)
    return list(dict.fromkeys(together(path) for path in found))
