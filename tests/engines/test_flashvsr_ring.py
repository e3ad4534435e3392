"""FlashVSR's transformer comes block by block: the same frames, the bytes foretold, a plan."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from longtake.core.plan import Footprint, Plan
from longtake.core.plugins import find
from longtake.core.task import Limits
from longtake.engines import _flashvsr_files as files
from longtake.engines import _flashvsr_memory as memory
from longtake.engines.flashvsr import plugin
from longtake.offload._locked import layout
from longtake.planner import fit
from longtake.runtime import offloads
from tests.engines import tiny_flashvsr as tiny
from tests.engines.test_flashvsr import upscaled
from tests.offload.toys import Counted, counted
from tests.plans import a_gpu, a_machine, a_plan, an_info

GiB = 1 << 30
LAYERS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("ring") / "flashvsr-v1.1", layers=LAYERS)


@pytest.mark.parametrize("state", ["device", "host"])
def test_the_same_frames_for_any_numbers(folder, state) -> None:
    plan, film = tiny.planned(folder, (80, 48)), tiny.film(31, (80, 48))
    with tiny.opened(plan) as model:
        wanted = upscaled(model, film)
    for resident, slots in ((0, 2), (2, 3), (LAYERS, 2)):
        placement = replace(
            plan.placement, offload="ring", state=state, resident_blocks=resident, slots=slots
        )
        with plugin.open(
            replace(plan, placement=placement), "cpu", offloads.placed(placement)
        ) as model:
            assert (upscaled(model, film) == wanted).all()
            assert (upscaled(model, film) == wanted).all()


@pytest.mark.parametrize(("resident", "slots"), [(0, 2), (2, 3), (99, 2)])
def test_a_ring_takes_what_was_said(folder, monkeypatch, resident, slots) -> None:
    plan = tiny.planned(folder)
    placement = replace(plan.placement, offload="ring", resident_blocks=resident, slots=slots)
    plan = replace(plan, placement=placement)
    made = counted(monkeypatch)
    with plugin.open(plan, "cpu", offloads.placed(placement)) as model:
        model.parts.bring("dit")
        (copies,) = made
        held = {place: copies.held(place) for place in ("host", "device")}
    shapes = files.shapes(files.find(plan.recipe.knobs), plan.recipe.knobs)
    at = memory.measures(plan.geometry, plan.recipe, shapes)
    ring = memory._ring(shapes, at, placement)
    assert isinstance(copies, Counted)
    assert (held["device"], held["host"]) == (ring.device, ring.host)


def _on_gpu(free: float, **limits: object) -> Plan:
    gpu = a_gpu(vram=int((free + 0.5) * GiB), free=int(free * GiB))
    machine = a_machine(gpus=(gpu,), torch="2.13.0", ram=64 * GiB, free_ram=60 * GiB)
    task = {"engine": "flashvsr", "scale": Fraction(2), "set": {"folder": "not-there"}}
    info = an_info(width=960, height=540)
    return a_plan(task, info, machine, Limits(devices="cuda:0", **limits))  # type: ignore[arg-type]


def test_1080p_where_the_whole_transformer_has_no_room() -> None:
    """As many blocks lie on the GPU as fit: nothing is known of the speed."""
    plan = _on_gpu(4.5)
    assert (plan.placement.offload, plan.placement.state) == ("ring", "host")
    assert 0 < plan.placement.resident_blocks < 30
    assert plan.memory.vram <= 4.5 * GiB * (1 - fit.HEADROOM)
    more = replace(plan.placement, resident_blocks=plan.placement.resident_blocks + 1, slots=2)
    engine = find("engines", "flashvsr")
    assert fit.replaced(plan, more, engine).memory.vram > plan.memory.vram - GiB // 8
    fewer = _on_gpu(4.2)
    assert fewer.placement.resident_blocks < plan.placement.resident_blocks
    assert fewer.identity == plan.identity


def test_what_waits_counts_once() -> None:
    """Under a ring the transformer waits to the page, the others in powers of two."""
    plan = _on_gpu(20, place={"offload": "ring", "resident_blocks": 3})
    shapes = files.official(plan.recipe.knobs)
    at = memory.measures(plan.geometry, plan.recipe, shapes)
    nets = memory._nets(shapes, at.e)
    others = sum(layout(nets[name]).locked for name in ("projector", "decoder"))
    said = memory.footprint(plan.geometry, plan.recipe, plan.placement, shapes, Footprint())
    assert said.parked == others + memory._ring(shapes, at, plan.placement).host
    assert any("--place offload=ring resident_blocks=3:" in note for note in plan.notes)
