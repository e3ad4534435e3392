"""CLIP in 8 bits, from files to tokens: its layers, how near they are, and the bytes planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from longtake.generators import _wan_files, _wan_memory
from longtake.generators._wan_job import parts
from longtake.generators._wan_load import Files, load
from longtake.nets.clip_vision import ClipVision
from longtake.nets.clip_vision_needs import BLOCKS, ClipConfig, activations
from longtake.nets.linear import QuantLinear, quantized
from longtake.offload._flat import tensors_of
from longtake.runtime.transformers import RECOGNISE
from longtake.weights.convert import convert
from longtake.weights.into_blocks import BlockOptions
from longtake.weights.quantize import QUANTS, quantize
from tests.engines.meta_trace import peak
from tests.generators.test_wan_files import knobs
from tests.generators.test_wan_job import SEEN
from tests.generators.wan_models import CLIP, EXACT, I2V, nets, official, small_clip
from tests.nets.formula import formula
from tests.nets.on_meta import attending, flash


def made(tmp_path: Path, quant: str) -> tuple[Files, Files]:
    """Official files, and the same with CLIP converted."""
    files = official(tmp_path / "from", nets(I2V))
    options = BlockOptions(quant={"image": quant}, recognise=RECOGNISE["wan"])
    (image,) = files["image"]
    (done,) = convert(image, tmp_path / "to", small_clip(), None, options)
    return files, files | {"image": [done.path]}


def linears(net: nn.Module) -> list[str]:
    return [key for key, layer in net.named_modules() if isinstance(layer, nn.Linear)]


def in_8_bits(exact: nn.Module, kind: str) -> ClipVision:
    """The net with layers made by hand."""
    with torch.device("meta"):
        net = ClipVision(CLIP)
    quantized(net, dict.fromkeys(linears(net), kind))
    state = dict(exact.state_dict())
    for key in linears(exact):
        state[f"{key}.weight"], state[f"{key}.weight_scale"] = quantize(
            state[f"{key}.weight"], kind
        )
    net.load_state_dict(state, assign=True)
    return net.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["cpu", "gpu"])
@pytest.mark.parametrize(("quant", "apart"), [("int8", 0.02), ("fp8", 0.08)])
def test_tokens_are_those_of_such_layers_and_near_the_exact_ones(
    tmp_path: Path, quant: str, apart: float, dtype: torch.dtype
) -> None:
    """In float32 as on a CPU, and in float16 as on a GPU."""
    files, narrow = made(tmp_path, quant)
    kinds = replace(EXACT, image=dtype)
    exact, found = (load(each, kinds, "cpu")["image"] for each in (files, narrow))
    layers = [x for x in found.modules() if isinstance(x, QuantLinear)]
    assert len(layers) == 2 * 4
    assert not linears(found)
    assert all(x.bias is not None and x.bias.dtype is dtype for x in layers)
    image = formula((1, 3, CLIP.image, CLIP.image), 3)
    with torch.inference_mode():
        ours, whole = found(image), exact(image)
        by_hand = in_8_bits(load(files, EXACT, "cpu")["image"], QUANTS[quant])
        for key, x in by_hand.named_parameters():
            if x.dtype is torch.float32 and not key.endswith("weight_scale"):
                x.data = x.data.to(dtype)
        assert torch.equal(ours, by_hand(image))
    assert ours.dtype is whole.dtype is dtype
    away = (ours.double() - whole.double()).norm() / whole.double().norm()
    assert 0 < away < apart


@pytest.mark.parametrize("quant", ["none", "int8"])
def test_all_blocks_of_a_converted_file_are_run(tmp_path: Path, quant: str) -> None:
    """It holds one block less than a published one, and nothing behind."""
    files = official(tmp_path / "from", nets(I2V))
    options = BlockOptions(quant={"image": quant})
    (image,) = files["image"]
    (done,) = convert(image, tmp_path / "to", small_clip(), None, options)
    net = load(files | {"image": [done.path]}, EXACT, "cpu")["image"]
    assert net.visual.config == CLIP
    if quant == "none":
        exact = load(files, EXACT, "cpu")["image"].state_dict()
        assert all(torch.equal(x, exact[key]) for key, x in net.state_dict().items())


@pytest.mark.parametrize("quant", ["int8", "fp8"])
def test_planned_bytes_are_those_that_are_loaded(tmp_path: Path, quant: str) -> None:
    _, narrow = made(tmp_path, quant)
    read = _wan_files.sizes(knobs(tmp_path / "to", model="i2v-14b-480p"))
    assert (read.image, read.image_matrices) == (CLIP, QUANTS[quant])
    for dtype in ("float32", "float16"):
        job = replace(
            SEEN, image=read.image, image_matrices=read.image_matrices, image_dtype=dtype
        )  # fmt: skip
        net = load(narrow, replace(EXACT, image=getattr(torch, dtype)), "cpu")["image"]
        loaded = sorted(x.nbytes for x in tensors_of(net).values())
        assert sorted(parts(job)["image"].tensors) == loaded


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_layers_make_wider_is_planned(dtype: str) -> None:
    """Of the published sizes: never less than there is, and not much more."""
    sizes = ClipConfig(layers=2)
    with torch.device("meta"):
        net = ClipVision(sizes)
    quantized(net, dict.fromkeys((k for k in linears(net) if k.startswith(BLOCKS)), "int8"))
    for key, x in net.named_parameters():
        if x.dtype is torch.float32 and not key.endswith("weight_scale"):
            x.data = x.data.to(getattr(torch, dtype))
    image = torch.empty(1, 3, sizes.image, sizes.image, device="meta")
    with attending(flash), torch.inference_mode():
        traced = peak(lambda: net(image))
    plain = activations(sizes, dtype)
    job = replace(SEEN, image=sizes, image_matrices="int8", image_dtype=dtype)
    remade = _wan_memory._image(job)[1] - _wan_memory._image(replace(job, image_matrices=None))[1]
    assert plain < traced <= plain + remade <= traced + (64 << 20)
