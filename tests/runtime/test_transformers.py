"""A checkpoint of Wan 2.1 is known by its names, with the sizes of the net it is for."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from longtake.nets import umt5_needs
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
    plain = RECOGNISE["wan"]["transformer"](table)
    config = DiTConfig(**{**plain.config, "patch": tuple(plain.config["patch"])})
    names = {k: t for k, (t,) in named(config, DIFFUSERS).items()} if diffusers else {}
    found = RECOGNISE["wan"]["transformer"]({names.get(k, k): shape for k, shape in table.items()})
    assert found.names == {k: names.get(k, k) for k in table}
    assert found.config == {**asdict(config), "patch": [1, 2, 2]}
    assert sizes.tensors(config) == table
    matrices = [k for k, s in sizes.block_tensors(config).items() if found.matrix(k, s)]
    assert len(matrices) == (12 if config.image_dim else 10)
    assert found.exact("head.head.weight")
    assert not any(found.exact(key) for key in matrices)


def test_every_model_that_becomes_blocks_has_a_reader() -> None:
    wanted = {m.family: set(m.in_blocks) for m in MODELS.values() if m.in_blocks}
    assert wanted == {family: set(roles) for family, roles in RECOGNISE.items()}


def test_the_text_encoder_is_known() -> None:
    table = MODELS["wan-t2v-14b"].file("text").table()
    found = RECOGNISE["wan"]["text"](table)
    assert found.config == asdict(umt5_needs.XXL)
    assert found.names == {key: key for key in table}
    inside = umt5_needs.block_tensors(umt5_needs.XXL)
    assert sum(found.matrix(key, shape) for key, shape in inside.items()) == 7
    assert not any(found.exact(key) for key in table)


def test_other_files_are_refused() -> None:
    with pytest.raises(ValueError, match="no transformer of Wan"):
        RECOGNISE["wan"]["transformer"](MODELS["flashvsr-v1.1"].file("vae").table())
    with pytest.raises(ValueError, match="no umT5"):
        RECOGNISE["wan"]["text"](MODELS["flashvsr-v1.1"].file("vae").table())
