"""The colour fix: official numbers, independence of the chunk, no silent miss."""

from __future__ import annotations

import pytest
import torch

from longtake.engines._color_fix import adain, wavelet
from tests.nets.flashvsr.goldens import FULL, SMALL, difference, golden
from tests.nets.formula import formula

FIXES = pytest.mark.parametrize("fix", [adain, wavelet])


@FIXES
@pytest.mark.parametrize("folder", [SMALL, FULL], ids=["small", "full"])
def test_official_colours(fix, folder):
    data, _ = golden("color_fix", folder)
    assert difference(fix(data["hq"].clone(), data["lq"]), data[fix.__name__]) <= 1e-5


@FIXES
def test_frames_per_call_change_no_bit(fix):
    frames, source = (formula((1, 3, 5, 37, 61), seed) * 1.2 for seed in (1, 2))
    whole = fix(frames.clone(), source)
    assert float(whole.abs().max()) <= 1
    parts = [fix(frames[:, :, a:b].clone(), source[:, :, a:b]) for a, b in ((0, 1), (1, 3), (3, 5))]
    assert torch.equal(torch.cat(parts, dim=2), whole)


@FIXES
def test_a_film_is_its_own_best_source(fix):
    frames = formula((1, 3, 2, 20, 33), 1) * 0.9
    assert difference(fix(frames.clone(), frames), frames) <= 1e-5


@FIXES
def test_another_shape_is_an_error(fix):
    with pytest.raises(ValueError, match="the frames' shape"):
        fix(torch.zeros(1, 3, 2, 8, 8), torch.zeros(1, 3, 2, 8, 16))
