"""The engine FlashVSR on a GPU: the same noise as on a CPU, and nearly the same frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

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


@pytest.mark.parametrize("mode", ["tiny", "full"])
def test_every_placement_gives_the_same_frames(tmp_path, mode) -> None:
    """Bit for bit, with page-locked memory and copies beside the computation; twice each, since
    what is not waited for shows only sometimes."""
    plan = tiny.planned(tiny.make(tmp_path / "flashvsr-v1.1"), (144, 80), mode=mode)
    made = []
    for offload, state in plugin.grid({"lead": 3}).placements:
        placement = replace(plan.placement, offload=offload, state=state)
        here = replace(plan, placement=placement)
        with plugin.open(here, "cuda:0", find("offload", offload)) as model:
            made += [upscaled(model, tiny.film(46, (144, 80))) for _ in range(2)]
    assert all((other == made[0]).all() for other in made[1:])
