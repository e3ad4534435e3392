"""The engine FlashVSR on a GPU: the same noise as on a CPU, and nearly the same frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
