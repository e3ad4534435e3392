"""How many blocks lie where: within the budget, no more than it takes, never slower with more."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.core.errors import Usage
from longtake.core.plan import BlocksOutlook, Footprint, Outlook, Placement, Plan, StageOutlook
from longtake.core.ports import Grid
from longtake.core.task import Limits
from longtake.offload._partition import Pace, Partition, partition, pass_seconds
from longtake.planner import fit, ladder, wishes
from tests.plans import a_gpu, a_machine, a_plan

MiB = 1 << 20
REST = 8  # blocks' bytes of all else


@dataclass(frozen=True)
class Toy:
    """A model of blocks of 1 MiB; `speed`: s of a block to compute, copy and read, or None."""

    blocks: int
    speed: tuple[float, float, float] | None
    stored: bool = True

    def grid(self, knobs) -> Grid:
        ways = ("resident", "swap", "ring", *(("disk",) if self.stored else ()))
        return Grid(
            steps=(1,), placements=tuple((way, "device") for way in ways), blocks=self.blocks
        )

    def where(self, placement: Placement) -> Partition:
        if placement.offload in ("resident", "swap"):
            return partition(self.blocks, resident=self.blocks)
        disk = placement.offload == "disk"
        return partition(
            self.blocks, resident=placement.resident_blocks,
            host=placement.host_blocks if disk else None, slots=placement.slots,
            read_ahead=placement.read_ahead if disk else 2,
        )  # fmt: skip

    def footprint(self, geometry, recipe, placement: Placement) -> Footprint:
        there = self.where(placement)
        if placement.offload == "resident":
            return Footprint(weights=(self.blocks + REST + 4) * MiB)
        if placement.offload == "swap":
            return Footprint(weights=(self.blocks + REST) * MiB, parked=2 * self.blocks * MiB)
        disk = placement.offload == "disk"
        parked = there.host_bytes(MiB, keeps=not disk) + (MiB if disk and there.device else 0)
        return Footprint(weights=there.device_bytes(MiB, REST * MiB), parked=parked)

    def outlook(self, plan: Plan, machine) -> Outlook:
        there = self.where(plan.placement)
        compute, copy, read = self.speed or (None, None, None)
        blocks = BlocksOutlook(
            blocks=self.blocks, device=len(there.device), host=len(there.host),
            disk=len(there.disk), block=MiB, compute=compute, copy=copy, read=read,
        )  # fmt: skip
        seconds = None
        if self.speed is not None:
            seconds = pass_seconds(there, Pace(compute=compute, copy=copy, read=read))
        return Outlook(
            stages=(StageOutlook(name="denoise", seconds=seconds, vram=0, ram=0),), blocks=blocks
        )


BASE = a_plan()


def planned(toy: Toy, vram: int, ram: int, place: dict | None = None) -> Plan | None:
    """With `vram` and `ram` MiB, the latter beside the process itself."""
    placement = replace(BASE.placement, devices=("cuda:0",), step=1)
    plan = fit.replaced(BASE, placement, toy)
    machine = a_machine(gpus=(a_gpu(),), torch="2.13.0")
    limits = Limits(vram=vram * MiB, ram=plan.memory.host.total + ram * MiB, place=place or {})
    rungs = wishes.held(fit.rungs(plan, toy), toy.grid({}), limits.place)
    found = fit.chosen(plan, rungs, toy, machine, limits)
    if found is not None:
        assert fit.fits(found, machine, limits)
        assert found.memory.vram <= vram * MiB
    return found


def seconds(toy: Toy, plan: Plan) -> float:
    """In the three digits that are compared."""
    found = toy.outlook(plan, None).seconds
    assert found is not None
    return float(f"{found:.3g}")


speeds = st.tuples(*[st.integers(1, 40).map(lambda n: n / 8)] * 3)
toys = st.builds(Toy, st.integers(1, 48), speeds, st.booleans())
rooms = st.integers(0, 130)


@settings(deadline=None, max_examples=100)
@given(toys, rooms, rooms, rooms)
def test_more_memory_is_never_slower(toy: Toy, vram: int, ram: int, more: int) -> None:
    less = planned(toy, vram, ram)
    for bigger in (planned(toy, vram + more, ram), planned(toy, vram, ram + more)):
        if less is not None:
            assert bigger is not None
            assert seconds(toy, bigger) <= seconds(toy, less)


@settings(deadline=None, max_examples=100)
@given(st.builds(Toy, st.integers(1, 9), speeds, st.booleans()), st.integers(0, 30), rooms)
def test_no_numbers_are_faster(toy: Toy, vram: int, ram: int) -> None:
    """Of all that fit, tried one by one."""
    found = planned(toy, vram, ram)
    best = None
    machine = a_machine(gpus=(a_gpu(),), torch="2.13.0")
    placement = replace(BASE.placement, devices=("cuda:0",), step=1)
    plan = fit.replaced(BASE, placement, toy)
    limits = Limits(vram=vram * MiB, ram=plan.memory.host.total + ram * MiB)
    for way, _ in toy.grid({}).placements:
        numbers = [(0, 0)]
        if way in ("ring", "disk"):
            most = range(toy.blocks + 1)
            numbers = [(r, h) for r in most for h in (most if way == "disk" else (0,))]
        for (resident, host), queue in product(numbers, wishes.QUEUES):
            there = replace(placement, queue=queue, resident_blocks=resident, host_blocks=host)
            tried = fit.replaced(plan, replace(there, offload=way), toy)
            if fit.fits(tried, machine, limits):
                best = min(best or 1e9, seconds(toy, tried))
    assert (best is None) == (found is None)
    if found is not None and best is not None:
        assert seconds(toy, found) == best


@settings(deadline=None, max_examples=100)
@given(toys, rooms, rooms)
def test_one_block_fewer_on_the_device_would_be_slower(toy: Toy, vram: int, ram: int) -> None:
    """Where a ring was chosen for its speed: no memory is taken for nothing."""
    found = planned(replace(toy, stored=False), vram, ram, {"offload": "ring"})
    if found is None or not 0 < found.placement.resident_blocks < toy.blocks - 3:
        return
    one_less = replace(found.placement, resident_blocks=found.placement.resident_blocks - 1)
    took = [toy.outlook(p, None).seconds for p in (found, replace(found, placement=one_less))]
    assert (took[0] or 0) < (took[1] or 0)


def test_a_hidden_ring_keeps_no_block_on_the_device() -> None:
    found = planned(Toy(40, (2.0, 1.0, 9.0)), 30, 60)
    assert found is not None
    assert (found.placement.offload, found.placement.resident_blocks) == ("ring", 0)


def test_copies_that_cannot_hide_leave_as_many_blocks_there_as_fit() -> None:
    found = planned(Toy(40, (1.0, 4.0, 9.0)), REST + 20, 60)
    assert found is not None
    assert (found.placement.offload, found.placement.resident_blocks) == ("ring", 18)
    three = planned(Toy(40, (3.0, 4.0, 9.0)), REST + 20, 60)
    assert three is not None
    assert (three.placement.resident_blocks, three.placement.slots) == (10, 3)


def test_what_ram_has_no_room_for_is_read() -> None:
    found = planned(Toy(40, (2.0, 1.0, 4.0)), 20, 30)
    assert found is not None
    assert (found.placement.offload, found.placement.host_blocks) == ("disk", 27)
    assert planned(Toy(40, (2.0, 1.0, 4.0), stored=False), 20, 30) is None


def test_where_speed_is_not_known_as_much_lies_there_as_fits() -> None:
    found = planned(Toy(40, None), REST + 20, 60)
    assert found is not None
    assert (found.placement.offload, found.placement.resident_blocks) == ("ring", 18)


def test_what_is_fixed_stays() -> None:
    toy = Toy(40, (2.0, 1.0, 4.0))
    found = planned(toy, 40, 30, {"resident_blocks": "7", "slots": "3"})
    assert found is not None
    assert (found.placement.offload, found.placement.resident_blocks) == ("disk", 7)
    assert found.placement.slots == 3
    both = planned(toy, 60, 60, {"host_blocks": "5", "bandwidth": "0.5", "read_ahead": "9"})
    assert both is not None
    assert (both.placement.offload, both.placement.host_blocks) == ("disk", 5)
    assert (both.placement.bandwidth, both.placement.read_ahead) == (0.5, 9)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"resident_blocks": "41"}, "this model has 40 blocks"),
        ({"resident_blocks": "-1"}, "outside 0 .. 1000"),
        ({"host_blocks": "x"}, "not a value of type int"),
        ({"slots": "4"}, "outside 2 .. 3"),
        ({"copy_streams": "17"}, "outside 1 .. 16"),
        ({"bandwidth": "0.05"}, "outside 0.1 .. 1"),
        ({"vace_blocks_to_swap": "16"}, "outside 0 .. 15"),
        ({"vram_threshold_percent": "0"}, "outside 1 .. 100"),
        ({"granularity": "phase"}, "come as a whole"),
        ({"offload": "resident", "resident_blocks": "4"}, "take offload=ring or disk"),
        ({"offload": "ring", "host_blocks": "4"}, "take offload=disk"),
        ({"offload_text": "no"}, "no text encoder"),
        ({"blocks_to_swap": "4"}, "there is offload, state, step, queue, resident_blocks"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(place, words) -> None:
    with pytest.raises(Usage) as refused:
        planned(Toy(40, (2.0, 1.0, 4.0)), 60, 60, place)
    assert words in str(refused.value)


def test_a_share_of_the_gpu_is_a_limit() -> None:
    toy = Toy(40, (1.0, 4.0, 9.0))
    whole = planned(toy, 60, 200)
    machine = a_machine(gpus=(a_gpu(vram=100 * MiB, free=100 * MiB),), torch="2.13.0")
    assert whole is not None
    limits = Limits(place={"vram_threshold_percent": "40"})
    need, allowed, why = fit.budget(whole, machine, limits)["VRAM"]
    assert (allowed, why) == (40 * MiB, "--place vram_threshold_percent")
    assert need > allowed


def test_the_ladder_leads_down_to_no_block_in_memory() -> None:
    """Behind a placement whose blocks ran out of room come halves of them."""
    toy = Toy(40, (1.0, 4.0, 9.0))
    found = planned(toy, REST + 20, 60)
    assert found is not None
    under = ladder.lower(fit.rungs(found, toy), found.placement)
    ring = [p for p in under if p.offload == "ring"]
    assert {p.resident_blocks for p in ring} == {18, 9, 4, 2, 1, 0}
    needs = [fit.replaced(found, p, toy).memory for p in under]
    assert min(m.vram for m in needs) == (REST + 2) * MiB
    assert under[-1].offload == "disk"
    assert under[-1].host_blocks == 0


def test_plans_from_before_still_load() -> None:
    stored = json.loads(BASE.to_json())
    assert stored.pop("outlook") is None
    old = ("is", "devices", "offload", "step", "queue", "threads", "state")
    stored["placement"] = {k: v for k, v in stored["placement"].items() if k in old}
    assert Plan.from_json(json.dumps(stored)) == BASE
