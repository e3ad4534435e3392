"""The engine FlashVSR on a GPU: the same noise as on a CPU, and nearly the same frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from longtake.core.knobs import settle
from longtake.core.plugins import find
from longtake.engines._noise import noise
from longtake.engines.flashvsr import plugin
from longtake.offload.resident import Resident
from tests.engines import tiny_flashvsr as tiny
from tests.engines.test_flashvsr import upscaled

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_noise_is_equal_on_both(dtype) -> None:
    where = range(500, 504), 16, range(96), range(176)
    cpu, gpu = (noise(3, *where, torch.device(d)).to(dtype).cpu() for d in ("cpu", "cuda"))
    assert torch.equal(cpu, gpu)


@pytest.mark.parametrize("mode", ["tiny", "full"])
def test_frames_are_those_of_a_cpu(tmp_path, mode) -> None:
    plan = tiny.planned(tiny.make(tmp_path / "flashvsr-v1.1"), mode=mode)
    made = []
    for device in ("cpu", "cuda:0"):
        with plugin.open(plan, device, Resident()) as model:
            made.append(upscaled(model, tiny.film(30)).astype(int))
    assert np.abs(made[0] - made[1]).max() <= 2


@pytest.mark.parametrize("tile", [0, 256])
@pytest.mark.parametrize("mode", ["tiny", "full"])
def test_every_placement_gives_the_same_frames(tmp_path, mode, tile) -> None:
    """Bit for bit, with page-locked memory and copies beside the computation; twice each, since
    what is not waited for shows only sometimes."""
    plan = tiny.planned(tiny.make(tmp_path / "flashvsr-v1.1"), (144, 80), mode=mode, tile=tile)
    made = []
    for offload, state in plugin.grid(settle(plugin.knobs, {})).placements:
        placement = replace(plan.placement, offload=offload, state=state)
        here = replace(plan, placement=placement)
        with plugin.open(here, "cuda:0", find("offload", offload)) as model:
            made += [upscaled(model, tiny.film(46, (144, 80))) for _ in range(2)]
    assert all((other == made[0]).all() for other in made[1:])


def test_memory_is_given_back(tmp_path) -> None:
    """N16: after each job the GPU has what it had after the first, and so has the host's
    page-locked memory."""
    plan = tiny.planned(tiny.make(tmp_path / "flashvsr-v1.1"), (144, 80))
    placement = replace(plan.placement, offload="swap", state="host")
    reserved = []
    for _ in range(4):
        with plugin.open(
            replace(plan, placement=placement), "cuda:0", find("offload", "swap")
        ) as m:
            upscaled(m, tiny.film(30, (144, 80)))
        del m
        reserved.append(torch.cuda.memory_reserved())
    assert max(reserved[1:]) <= reserved[0] <= 64 << 20


def test_deep_frames_leave_as_they_are(tmp_path) -> None:
    """16 bits go through page-locked memory as 8 bits do."""
    plan = tiny.planned(tiny.make(tmp_path / "flashvsr-v1.1"), bits=16)
    made = []
    for device in ("cpu", "cuda:0"):
        with plugin.open(plan, device, Resident()) as model:
            made.append(upscaled(model, tiny.film(30)).astype(int))
    assert made[0].max() > 60000
    assert np.abs(made[0] - made[1]).max() <= 400
