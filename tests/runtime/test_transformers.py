"""A checkpoint of Wan 2.1 is known by its names, with the sizes of the net it is for."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from longtake.nets.wan import sizes
from longtake.nets.wan.keys import named
from longtake.nets.wan.keys_diffusers import DIFFUSERS
from longtake.nets.wan.sizes import DiTConfig
from longtake.runtime.transformers import RECOGNISE
from longtake.weights.catalog import MODELS


@pytest.mark.parametrize(
    "model", [m for m in MODELS.values() if m.family == "wan"], ids=lambda m: m.name
)
@pytest.mark.parametrize("diffusers", [False, True])
def test_every_published_model_is_known(model, diffusers) -> None:
    table = model.file("transformer").table()
    plain = RECOGNISE["wan"](table)
    config = DiTConfig(**{**plain.config, "patch": tuple(plain.config["patch"])})
    names = {k: t for k, (t,) in named(config, DIFFUSERS).items()} if diffusers else {}
    found = RECOGNISE["wan"]({names.get(k, k): shape for k, shape in table.items()})
    assert found.names == {k: names.get(k, k) for k in table}
    assert found.config == {**asdict(config), "patch": [1, 2, 2]}
    assert sizes.tensors(config) == table
    matrices = [k for k, s in sizes.block_tensors(config).items() if found.matrix(k, s)]
    assert len(matrices) == (12 if config.image_dim else 10)
    assert found.exact("head.head.weight")
    assert not any(found.exact(key) for key in matrices)


def test_every_model_that_becomes_blocks_has_a_reader() -> None:
    assert {m.family for m in MODELS.values() if m.in_blocks} == set(RECOGNISE)


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="no transformer of Wan"):
        RECOGNISE["wan"](MODELS["flashvsr-v1.1"].file("vae").table())
