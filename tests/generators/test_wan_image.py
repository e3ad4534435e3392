"""What a model takes from an image: tokens, latents and a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.core.errors import BadInput, NotANumber, Usage
from longtake.engines._parts import Parts
from longtake.generators._wan_image import look
from longtake.nets.clip_vision import prepared
from longtake.nets.wan.tiles import Tiling
from tests.generators.wan_models import CLIP, CPU, I2V, nets, opened, picture
from tests.nets.flashvsr.goldens import difference
from tests.nets.formula import each


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return opened(tmp_path_factory.mktemp("i2v"), I2V)


def test_it_is_what_the_nets_make_of_it(parts: Parts) -> None:
    image = picture(48, 32)
    made = look(parts, image, 9, CPU)
    whole = nets(I2V)
    floats = torch.from_numpy(image).float().permute(2, 0, 1)[None] / 255 * 2 - 1
    with torch.inference_mode():
        clip = torch.cat((floats[:, :, None], torch.zeros(1, 3, 8, 32, 48)), dim=2)
        latents = each(whole.vae.encode, clip, {})[0]
        tokens = whole.image(prepared(floats, CLIP.image))[0]
    assert made.tokens is not None
    assert difference(made.tokens, tokens) <= 1e-6
    assert made.beside.shape == (20, 3, 4, 6)
    assert difference(made.beside[4:], latents) <= 1e-6


def test_the_mask_marks_the_first_latent(parts: Parts) -> None:
    mask = look(parts, picture(32, 32), 13, CPU).beside[:4]
    assert (mask[:, 0] == 1).all()
    assert (mask[:, 1:] == 0).all()
    assert mask.shape[1] == 4


def test_a_film_of_one_frame(parts: Parts) -> None:
    one, more = (look(parts, picture(32, 32), frames, CPU).beside for frames in (1, 5))
    assert one.shape == (20, 1, 4, 4)
    assert torch.equal(one, more[:, :1])


def test_tiles_are_near_and_deep_images_say_the_same(parts: Parts) -> None:
    image = picture(64, 48)
    whole = look(parts, image, 1, CPU)
    tiled = look(parts, image, 1, CPU, Tiling(size=(5, 6), stride=(4, 4)))
    assert torch.equal(tiled.beside[:4], whole.beside[:4])
    assert 0 < difference(tiled.beside[4:], whole.beside[4:]) < 0.5
    deep = look(parts, image.astype(np.uint16) * 257, 1, CPU)
    assert difference(deep.beside, whole.beside) <= 1e-5


def test_what_does_not_fit_is_refused(parts: Parts) -> None:
    with pytest.raises(BadInput, match=r"40 x 32 px.*multiples of 16"):
        look(parts, picture(40, 32), 5, CPU)
    with pytest.raises(Usage, match="frames=6"):
        look(parts, picture(32, 32), 6, CPU)


def test_what_is_no_number_is_told(tmp_path: Path) -> None:
    parts = opened(tmp_path, I2V)
    parts["vae"].conv1.bias.data[0] = float("nan")
    with pytest.raises(NotANumber, match="image"):
        look(parts, picture(32, 32), 1, CPU)
