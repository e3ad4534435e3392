"""The tables of keys and shapes are those by which the official loader knows its files."""

from __future__ import annotations

import hashlib
import math

import pytest

from longtake.weights import tables
from longtake.weights.catalog import MODELS, version_in


def fingerprint(table: tables.Table) -> str:
    """As DiffSynth-Studio's `hash_state_dict_keys` makes it of names and shapes."""
    words = [f"{key}:{'_'.join(map(str, shape))}" for key, shape in table.items()]
    return hashlib.md5(",".join(sorted([*words, *table])).encode()).hexdigest()


@pytest.mark.parametrize(
    ("table", "tensors", "values", "official"),
    [
        (tables.wan_transformer, 825, 1_418_996_800, "9269f8db9040a9d860eaca435be61814"),
        (tables.wan_vae, 194, 126_892_531, "ccc42284ea13e1ad04693284c7a09be6"),
        (tables.flashvsr_projection, 8, 287_845_888, None),
        (tables.flashvsr_decoder, 66, 45_338_371, None),
    ],
)
def test_table(table, tensors, values, official) -> None:
    found = table()
    assert (len(found), sum(map(math.prod, found.values()))) == (tensors, values)
    assert official in (None, fingerprint(found))


def test_published_sizes_fit_the_tables() -> None:
    """A file is as long as its values at 2 or 4 bytes each, and some percent of names and more."""
    known = [f for m in MODELS.values() for f in m.files if f.bytes is not None]
    assert len(known) == 6
    for file in known:
        values = sum(map(math.prod, file.table().values()))
        assert any(0 <= file.bytes / (values * width) - 1 < 0.05 for width in (2, 4)), file.name
        assert len(file.sha256) == 64


def test_versions_in_names() -> None:
    said = {
        "FlashVSR-v1.1": "v1.1",
        "flashvsr_v1.0": "v1.0",
        "v1.1": "v1.1",
        "FlashVSR-1.1": "v1.1",
    }
    said |= dict.fromkeys(("FlashVSR", "Wan2.1", "mine", "models_2024_11", "1.1"))
    assert {name: version_in(name, "flashvsr") for name in said} == said
