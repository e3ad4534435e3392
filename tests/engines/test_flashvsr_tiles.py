"""Tiles: they cover, they blend, they leave no grid; and what they cost is known (N10)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.errors import DoesNotFit, Usage
from longtake.core.plugins import find
from longtake.core.task import Limits
from longtake.engines._flashvsr_frames import CELL, padded_size
from longtake.engines._flashvsr_tiles import ALIGNED, DEAR, OVERLAP, proposals, tiles
from longtake.engines.flashvsr import plugin
from tests.engines import tiny_flashvsr as tiny
from tests.engines.test_flashvsr import upscaled
from tests.engines.tiny_flashvsr import film, opened, planned
from tests.plans import GiB, a_gpu, a_machine, a_plan, an_info

CPU = torch.device("cpu")
SIZES = [(960, 540), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160)]
SIDES = st.integers(1, 40).map(lambda n: n * CELL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("weights") / "flashvsr-v1.1")


# --- which ---------------------------------------------------------------------------------------


@given(size=st.tuples(SIDES, SIDES), most=st.integers(2 * CELL, 2000))
def test_tiles_cover_the_picture_and_overlap(size, most) -> None:
    grid = tiles(size, most)
    for side, length, starts in zip(size, grid.tile, (grid.left, grid.top), strict=True):
        assert length <= most or starts == (0,)
        assert length % CELL == 0
        assert all(start % ALIGNED == 0 for start in starts)
        assert starts[0] == 0
        assert starts[-1] + length == side
        for a, b in pairwise(starts):
            assert a < b <= a + length - OVERLAP + ALIGNED


@settings(deadline=None)
@given(size=st.tuples(SIDES, SIDES), most=st.integers(3 * CELL, 2000))
def test_shares_are_one_in_sum(size, most) -> None:
    grid = tiles(size, most)
    whole = torch.zeros(size[1] // 16, size[0] // 16)
    for part, share in zip(grid.parts(), grid.shares(CPU), strict=True):
        assert share.min() >= 0
        rows, columns = (slice(x.start // 16, x.stop // 16) for x in part)
        whole[rows, columns] += share[8::16, 8::16]
    torch.testing.assert_close(whole, torch.ones_like(whole))


def test_none_is_one_tile() -> None:
    grid = tiles((1920, 1152), 0)
    assert len(grid) == 1
    assert grid.work == 1
    assert (grid.shares(CPU)[0] == 1).all()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_proposed_is_not_dear(size) -> None:
    """N10."""
    padded = padded_size(size)
    found = [tiles(padded, most) for most in proposals(padded)]
    assert found
    assert all(1 < grid.work <= DEAR for grid in found)
    areas = [grid.tile[0] * grid.tile[1] for grid in found]
    assert areas == sorted(areas, reverse=True)


def test_a_tile_that_is_too_small_is_refused() -> None:
    with pytest.raises(Usage, match="tile=255"):
        a_plan({"engine": "flashvsr", "scale": Fraction(2), "set": {"tile": 255}})


# --- pictures ------------------------------------------------------------------------------------


def test_a_tile_as_large_as_the_picture_changes_no_bit(folder) -> None:
    made = []
    for tile in (0, 256, 999):
        with opened(planned(folder, tile=tile)) as model:
            made.append(upscaled(model, film(30)))
    assert (made[0] == made[1]).all()
    assert (made[0] == made[2]).all()


@pytest.mark.parametrize("mode", ["tiny", "full"])
def test_every_placement_gives_the_same_frames(folder, mode) -> None:
    plan = planned(folder, (160, 80), mode=mode, tile=256)
    made = []
    for offload, state in plugin.grid(plan.recipe.knobs).placements:
        here = replace(plan, placement=replace(plan.placement, offload=offload, state=state))
        with opened(here) as model:
            assert len(model.tiles) == 2
            made.append(upscaled(model, film(30, (160, 80))))
    assert all((other == made[0]).all() for other in made[1:])


def flat(frames: int, size: tuple[int, int]) -> np.ndarray:
    """A slope from dark to bright."""
    width, height = size
    slope = np.linspace(40, 200, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    return np.broadcast_to(slope, (frames, height, width, 3)).astype(np.uint8)


def noisy(frames: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)


@pytest.mark.parametrize("picture", [flat, noisy, film])
@pytest.mark.parametrize("mode", ["tiny", "full"])
def test_there_is_no_grid_and_no_border(folder, mode, picture) -> None:
    """N10: on the tiles' sides a picture is no steeper than around them, and its mean does not
    fall at the border."""
    size = (160, 144)
    plan = planned(folder, size, mode=mode, tile=256, bits=16, color_fix="none")
    grid, made = tiles(padded_size(plan.geometry.target), 256), []
    assert len(grid) > 1
    for tile in (256, 0):
        knobs = {**plan.recipe.knobs, "tile": tile}
        with opened(replace(plan, recipe=replace(plan.recipe, knobs=knobs))) as model:
            made.append(upscaled(model, picture(22, size)).astype(float))
    tiled, whole = made
    for axis, starts, length in ((2, grid.left, grid.tile[0]), (1, grid.top, grid.tile[1])):
        steep = [np.abs(np.diff(x, axis=axis)).mean(axis=(0, 3 - axis, 3)) for x in made]
        sides = {side for start in starts for side in (start, start + length)}
        for side in sides - {0, grid.size[2 - axis]}:
            on, around = (x[side - 1] / x[side - 9 : side + 8].mean() for x in steep)
            assert on <= 1.02 * max(around, 1)
    borders = [x[:, :, [0, -1]].mean() + x[:, [0, -1]].mean() for x in made]
    assert borders[0] == pytest.approx(borders[1], rel=0.05)
    assert np.abs(tiled - whole).mean() < 0.1 * 65535


# --- plans ---------------------------------------------------------------------------------------


def test_what_does_not_fit_is_told_which_tile_would() -> None:
    """Tiles change the film, so nobody gets them unasked."""
    task = {"engine": "flashvsr", "scale": Fraction(2), "set": {"attention": "gathered"}}
    info = an_info(width=1920, height=1080)
    machine = a_machine(gpus=(a_gpu(free=7 * GiB),), torch="2.13.0", free_ram=120 * GiB)
    with pytest.raises(DoesNotFit, match=r"--set tile=(\d+)") as told:
        a_plan(task, info, machine, Limits())
    tile = int(str(told.value).partition("tile=")[2].split()[0].rstrip(","))
    task["set"]["tile"] = tile
    plan = a_plan(task, info, machine, Limits())
    assert plan.memory.vram <= 7 * GiB
    assert find("engines", "flashvsr").grid(plan.recipe.knobs)
