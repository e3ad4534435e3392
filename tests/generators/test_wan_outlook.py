"""What is said of each stage is what bytes and seconds of the whole film are made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from longtake.core.errors import DoesNotFit, Usage
from longtake.core.plan import Plan
from longtake.core.plugins import find
from longtake.core.task import Generate, Limits
from longtake.generators import _wan_memory, _wan_time
from longtake.generators._wan_job import Job, Where
from longtake.generators._wan_outlook import outlook
from longtake.nets.wan.sizes import I2V_14B, T2V_1_3B, T2V_14B
from longtake.planner import fit, machines
from longtake.planner.balance import balance, told
from longtake.planner.calibration import Calibration
from longtake.runtime.prepare import draft_generated

GiB = 1 << 30
RATES = _wan_time.GPUS["NVIDIA GeForce RTX 4060"]


@pytest.mark.parametrize("config", [T2V_1_3B, I2V_14B])
@pytest.mark.parametrize("offload", ["resident", "swap", "ring", "disk"])
def test_stages_are_the_parts_of_the_whole(config, offload) -> None:
    job = Job(config=config, frames=81, size=(832, 480))
    where = Where(offload=offload, resident_blocks=3, host_blocks=5)
    found = outlook(job, where, RATES, GiB)
    whole = _wan_memory.footprint(job, where)
    assert found.seconds == pytest.approx(_wan_time.time_of(job, where, RATES).total)
    assert max(stage.vram for stage in found.stages) == whole.total
    assert max(stage.ram for stage in found.stages) == GiB + whole.outside
    pictured = ["image"] if config is I2V_14B else []
    assert [stage.name for stage in found.stages] == ["text", *pictured, "denoise", "decode"]
    unknown = outlook(job, where, None, GiB)
    assert unknown.seconds is None
    assert [stage.vram for stage in unknown.stages] == [stage.vram for stage in found.stages]


def test_where_blocks_lie_and_what_hides() -> None:
    job = Job(config=T2V_14B, frames=81, size=(832, 480))
    where = Where(offload="disk", resident_blocks=8, host_blocks=12)
    found = outlook(job, where, RATES, 0).blocks
    assert found is not None
    assert (found.blocks, found.device, found.host, found.disk) == (40, 8, 12, 20)
    assert found.copies_hidden
    assert found.reads_hidden
    few = outlook(replace(job, frames=1), replace(where, bandwidth=0.2), RATES, 0).blocks
    assert few is not None
    assert not few.copies_hidden
    assert not few.reads_hidden


def test_a_text_encoder_that_stays_costs_its_bytes_in_later_stages() -> None:
    job = Job(config=T2V_14B, frames=81, size=(832, 480))
    for offload in ("swap", "ring"):
        leaves, stays = (
            outlook(job, Where(offload=offload, stay=stay), RATES, 0) for stay in ((), ("text",))
        )
        text = _wan_memory._on_device(
            _wan_memory.parts(job), "text", Where(offload=offload, stay=("text",))
        )
        assert leaves.stages[0] == stays.stages[0]
        for a, b in zip(leaves.stages[1:], stays.stages[1:], strict=True):
            assert text <= b.vram - a.vram <= 1.1 * text


def test_half_of_the_bus_takes_twice_as_long() -> None:
    job = Job(config=T2V_14B, frames=5, size=(832, 480))
    whole, half = (
        outlook(job, Where(offload="ring", bandwidth=share), RATES, 0).blocks
        for share in (1.0, 0.5)
    )
    assert whole is not None
    assert half is not None
    assert whole.copy is not None
    assert half.copy == pytest.approx(2 * whole.copy)


# --- the planner's choice ------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_pulled(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path))


def planned(tmp_path: Path, machine: str, limits: Limits, **knobs: object) -> Plan:
    given = {"model": "t2v-14b", "vae_dtype": "bfloat16", "tile": 512, **knobs}
    task = Generate(
        prompt="cat", target=tmp_path / "cat.mp4", set={k: str(v) for k, v in given.items()}
    )
    known = Calibration(tmp_path / "nothing")
    plan, _ = draft_generated(task, limits, machines.described(machine), known, only_plan=True)
    assert plan.outlook is not None
    return plan


def test_a_hidden_ring_leaves_the_gpu_to_others(tmp_path) -> None:
    plan = planned(tmp_path, "rtx-4080-16gb", Limits())
    assert (plan.placement.offload, plan.placement.resident_blocks) == ("ring", 0)
    assert plan.memory.vram < 5 * GiB


def test_a_short_film_keeps_the_blocks_that_hide_the_others(tmp_path) -> None:
    """Of few tokens a block is computed sooner than copied."""
    plan = planned(tmp_path, "rtx-4090-24gb", Limits(), frames=1, tile=0)
    blocks = plan.outlook.blocks if plan.outlook else None
    assert blocks is not None
    assert plan.placement.offload == "ring"
    assert 0 < blocks.device < 40
    less = planned(tmp_path, "rtx-4090-24gb", Limits(vram=10 * GiB), frames=1, tile=0)
    assert less.placement.resident_blocks < plan.placement.resident_blocks
    assert less.memory.vram <= 10 * GiB
    assert less.time is not None
    assert plan.time is not None
    assert less.time.total > plan.time.total
    assert less.identity == plan.identity


def test_phases_come_where_blocks_have_no_room(tmp_path) -> None:
    plan = planned(tmp_path, "rtx-4080-16gb", Limits())
    tight = planned(tmp_path, "rtx-4080-16gb", Limits(vram=plan.memory.vram - 1))
    least = planned(tmp_path, "rtx-4080-16gb", Limits(vram=tight.memory.vram - 1))
    found = [(p.placement.granularity, p.placement.slots) for p in (plan, tight, least)]
    assert found == [("block", 2), ("phase", 3), ("phase", 2)]
    with pytest.raises(DoesNotFit, match=r"VRAM: at least .* are needed"):
        planned(tmp_path, "rtx-4080-16gb", Limits(vram=least.memory.vram - 1))


def test_what_is_fixed_is_kept_and_told_by_its_cost(tmp_path) -> None:
    own = planned(tmp_path, "rtx-4080-16gb", Limits())
    plan = planned(tmp_path, "rtx-4080-16gb", Limits(place={"resident_blocks": "8"}))
    assert (plan.placement.offload, plan.placement.resident_blocks) == ("ring", 8)
    more = plan.memory.vram - own.memory.vram
    (note,) = [n for n in plan.notes if n.startswith("--place resident_blocks=8:")]
    assert f"{more / GiB:.2f} GiB more of VRAM" in note
    assert "than what the planner would choose (offload=ring resident_blocks=0" in note
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(Usage, match="has 40 blocks"):
        planned(tmp_path, "rtx-4080-16gb", Limits(place={"resident_blocks": "41"}))
    with pytest.raises(Usage, match="no image encoder"):
        planned(tmp_path, "rtx-4080-16gb", Limits(place={"offload_image": "no"}))


def test_a_balance_adds_up(tmp_path) -> None:
    machine, limits = machines.described("rtx-4080-16gb"), Limits(ram=50 * GiB)
    plan = planned(tmp_path, "rtx-4080-16gb", limits)
    engine = find("generators", "wan")
    found = balance(plan, engine, machine, limits, (100, 40))
    vram, ram, disk = found.pools
    for pool in found.pools:
        assert sum(size for _, size in pool.causes) == pool.needed
    assert (vram.total, vram.used) == (16 * GiB, GiB // 2)
    assert (ram.allowed, ram.why, ram.overflow) == (50 * GiB, "--ram", 0)
    assert (disk.used, disk.allowed) == (60, 40)
    resident = fit.replaced(plan, replace(plan.placement, offload="resident"), engine)
    assert vram.overflow == resident.memory.vram - vram.allowed
    words = told(found)
    assert dict(words["blocks of the transformer"])["copies"] == "hidden behind computing"
    assert [name for name, _ in words["stages (predicted)"]] == ["text", "denoise", "decode"]
