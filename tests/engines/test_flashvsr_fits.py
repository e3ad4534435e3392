"""FlashVSR under every placement: the same frames, and where the bytes lie meanwhile."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from longtake.core.errors import DoesNotFit, OutOfMemory, Usage
from longtake.core.knobs import settle
from longtake.core.plan import Plan
from longtake.core.task import Limits
from longtake.engines._flashvsr_state import Desk, HostHistory, HostKV
from longtake.engines.flashvsr import plugin
from longtake.nets.flashvsr.state import KVState
from longtake.offload import _locked
from longtake.planner import fit
from longtake.runtime.recover import Recovery
from tests.engines import tiny_flashvsr as tiny
from tests.engines.test_flashvsr import upscaled
from tests.media import films
from tests.plans import GiB, a_gpu, a_machine, a_plan, an_info

PLACES = plugin.grid(settle(plugin.knobs, {})).placements


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("weights") / "flashvsr-v1.1")


@pytest.mark.parametrize("mode", ["tiny", "full"])
def test_every_placement_gives_the_same_frames(folder, mode) -> None:
    """Bit for bit, also in a second stream through the same open engine."""
    made = []
    for offload, state in PLACES:
        plan = tiny.planned(folder, (80, 48), mode=mode)
        placement = replace(plan.placement, offload=offload, state=state)
        with tiny.opened(replace(plan, placement=placement)) as model:
            made += [upscaled(model, tiny.film(frames, (80, 48))) for frames in (31, 3)]
    for number, frames in enumerate(made):
        assert (frames == made[number % 2]).all()


def test_nets_take_turns(folder) -> None:
    """One net is out of its waiting place, never two; afterwards none, and the seam is free."""
    plan = tiny.planned(folder)
    plan = replace(plan, placement=replace(plan.placement, offload="swap"))
    away, seen = {}, []
    with pytest.MonkeyPatch.context() as patch, tiny.opened(plan) as model:
        before = {n: {p.data_ptr() for p in net.parameters()} for n, net in model.parts.items()}
        turn = type(model.parts).turn

        def watched(self, name):
            net = turn(self, name)
            here = {n: {p.data_ptr() for p in net.parameters()} for n, net in self.items()}
            away[name] = [n for n in here if here[n] != before[n]]
            seen.append(name)
            return net

        patch.setattr(type(model.parts), "turn", watched)
        made = upscaled(model, tiny.film(30))
        parts = model.parts
    assert away == {name: [name] for name in ("projector", "dit", "decoder")}
    assert seen[:4] == ["projector", "projector", "dit", "decoder"]
    parts.bring("nobody")
    with tiny.opened(tiny.planned(folder)) as model:
        assert (upscaled(model, tiny.film(30)) == made).all()


def test_slabs_on_the_host_are_the_slabs(folder) -> None:
    """After chunks of random writes, a layer sees what it would see on the device; on the device
    there is room for two layers, whatever their number."""
    sizes = {"layers": 5, "windows": 2, "dim": 4, "dtype": torch.float32}
    torch.manual_seed(0)
    for kv_ratio in (1, 3, 5):
        cpu = torch.device("cpu")
        here = KVState(**sizes, kv_ratio=kv_ratio, device=cpu)
        desk = Desk((here.capacity, 256, 4), torch.float32, cpu)
        there = HostKV(desk=desk, **sizes, kv_ratio=kv_ratio, device=cpu)
        states = [here, there]
        for slabs in (3, 1, 1, 1, 1, 1, 1):
            fresh = torch.rand(5, 2, slabs, 256, 4)
            with states[0].chunk(slabs), states[1].chunk(slabs):
                for number in range(5):
                    with states[0].layer(number) as a, states[1].layer(number) as b:
                        assert a.newest == b.newest
                        for kv in (a, b):
                            for slab in range(slabs):
                                kv.write(slab, slice(None), *fresh[number, :, slab])
                            kv.summarise()
                        for place in states[0].order:
                            for name in ("keys", "values", "key_means"):
                                assert torch.equal(getattr(a, name)[place], getattr(b, name)[place])
        assert sum(x.nbytes for pair in desk.buffers for x in pair) * 5 == 2 * sum(
            x.nbytes for x in [*states[0]._keys, *states[0]._values]
        )


def test_a_history_on_the_host_is_the_history() -> None:
    """Copies come and go; what a layer holds is not changed under its hands."""
    layer, frames = torch.nn.Identity(), torch.rand(6, 1, 2, 3, 4)
    history = HostHistory(torch.device("cpu"), [frames[0].nbytes] * 2)
    for number, frame in enumerate(frames):
        window = (*history.get(layer, ()), frame)
        history[layer] = window[-2:]
        assert torch.equal(torch.stack(window), frames[max(number - 2, 0) : number + 1])
    assert list(history) == [layer]


@pytest.mark.parametrize("block", [1 << 10, 1 << 12])
def test_tensors_lie_apart_in_their_blocks(block) -> None:
    sizes = [*range(1, 600, 37), 3000, 5000]
    laid = _locked.layout(sizes, block)
    spans = sorted((b, at, at + size) for (b, at), size in zip(laid.places, sizes, strict=True))
    assert all(a[0] < b[0] or a[2] <= b[1] for a, b in pairwise(spans))
    assert all(at % _locked.ALIGNED == 0 for _, at, _ in spans)
    assert all(stop <= laid.used[b] for b, _, stop in spans)
    assert laid.locked == sum(x.nbytes for x in _locked.blocks(replace_used(laid), locked=False))


def replace_used(laid: _locked.Layout) -> _locked.Layout:
    """With blocks as large as those that are page-locked."""
    return _locked.Layout(tuple(map(_locked.power, laid.used)), laid.places)


# --- the ladder ----------------------------------------------------------------------------------


def on_a_gpu(**limits: object) -> Plan:
    """1080p with the official sizes on 24 GiB, planned without weights."""
    return a_plan(
        {"engine": "flashvsr", "scale": Fraction(2), "set": {"attention": "gathered"}},
        an_info(width=960, height=540),
        a_machine(gpus=(a_gpu(free=24 * GiB),), torch="2.13.0", free_ram=60 * GiB),
        Limits(**limits),  # type: ignore[arg-type]
    )


@pytest.fixture(autouse=True)
def nothing_pulled(monkeypatch, tmp_path) -> None:
    """No weights but those in folders that tests name."""
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path))


def test_every_rung_needs_less_of_something_and_gives_the_same_bytes() -> None:
    plan = on_a_gpu()
    steps = [fit.replaced(plan, p, plugin) for p in fit.rungs(plan, plugin)]
    places = [(p.placement.offload, p.placement.state) for p in steps]
    assert list(dict.fromkeys(places)) == list(PLACES)
    assert {p.identity for p in steps} == {plan.identity}
    for a, b in pairwise(steps):
        assert b.memory.vram < a.memory.vram or b.memory.ram < a.memory.ram
    vram = [p.memory.vram for p in steps]
    assert vram == sorted(vram, reverse=True)


def test_memory_that_runs_out_leads_to_the_rung_that_needs_less_of_it() -> None:
    """A GPU's goes past the rung that only spares the host's, to the last; then the job ends."""

    class OutOfMemoryError(RuntimeError):
        """As torch names it."""

    plan = replace(on_a_gpu(), placement=fit.rungs(on_a_gpu(), plugin)[0])
    recovery = Recovery(plan=fit.replaced(plan, plan.placement, plugin), engine=plugin)
    seen = []
    with pytest.raises(OutOfMemory, match="most frugal placement"):
        for _ in range(9):
            recovery.after(OutOfMemoryError("CUDA out of memory"), plan.segments[0])
            seen.append((recovery.plan.placement.offload, recovery.plan.placement.state))
            assert recovery.plan.recipe == plan.recipe
    assert list(dict.fromkeys(seen)) == list(PLACES[1:])
    host = Recovery(plan=fit.replaced(plan, plan.placement, plugin), engine=plugin)
    host.after(MemoryError(), plan.segments[0])
    assert (host.plan.placement.queue, host.plan.placement.state) == (1, "device")


def test_a_limit_on_vram_moves_bytes_and_not_the_recipe() -> None:
    roomy, tight = on_a_gpu(), on_a_gpu(vram=5 * GiB)
    assert (roomy.placement.offload, roomy.placement.state) == PLACES[0]
    assert (tight.placement.offload, tight.placement.state) == PLACES[-1]
    assert tight.identity == roomy.identity
    assert tight.memory.ram > roomy.memory.ram + 10 * GiB
    with pytest.raises(DoesNotFit, match="VRAM: at least"):
        on_a_gpu(vram=GiB)


def test_old_plans_still_load() -> None:
    plan = on_a_gpu()
    stored = json.loads(plan.to_json())
    assert stored["placement"].pop("state") == "device"
    assert Plan.from_json(json.dumps(stored)) == plan


@pytest.mark.parametrize(
    ("place", "words"),
    [({"state": "disk"}, "device, host"), ({"where": "1"}, "offload, state, step, queue")],
)
def test_places_that_are_not_there(place, words) -> None:
    with pytest.raises(Usage, match=words):
        on_a_gpu(place=place)


# --- through the command line --------------------------------------------------------------------


def test_a_job_goes_on_under_another_placement(job, folder, tmp_path) -> None:
    """Killed with everything on the device, finished with weights and state on the host."""
    frames = tiny.film(168, (32, 24))
    source = films.make(tmp_path / "in.mkv", frames=168, size=(32, 24), codec="ffv1",
                        pixel_format="yuv444p", picture=lambda i: frames[i])  # fmt: skip
    common = (
        "--engine", "flashvsr", "--scale", "2", "--codec", "ffv1", "--set", f"folder={folder}",
        "lead=1", "segment_frames=160",
    )  # fmt: skip
    straight, target = tmp_path / "straight.mkv", tmp_path / "out.mkv"
    assert job("upscale", source, straight, *common).code == 0
    killed = job.stopped(
        lambda e: e["event"] == "segment_done", signal.SIGKILL, "upscale", source, target, *common
    )
    assert killed.code != 0
    place = ("--place", "offload=swap", "state=host")
    done = job("upscale", source, target, *common, *place, LONGTAKE_FAULT="oom:compute:1")
    assert done.code == 0, done.events[-1]
    assert done.named("started")[0]["resumed"] == 1
    assert done.named("replanned")[0]["placement"]["state"] == "host"
    assert target.read_bytes() == straight.read_bytes()
