"""What a machine has learnt about its speed."""

from __future__ import annotations

from dataclasses import replace

from longtake.planner.calibration import Calibration, Rate, key, megapixels
from tests.plans import a_machine, a_plan

RATE = Rate(decode=0.1, compute=0.2, encode=0.3, wall=0.5, megapixels=10.0)


def test_nothing_is_known_at_first_and_what_is_learnt_is_kept(tmp_path) -> None:
    path = tmp_path / "deep" / "calibration.json"
    plan = a_plan()
    name = key(plan.recipe, plan.placement, a_machine())
    known = Calibration(path)
    assert known.time(name, plan.geometry) is None
    known.learn(name, RATE)
    time = Calibration(path).time(name, plan.geometry)
    assert time is not None
    assert time.total == 0.5 * megapixels(plan.geometry)


def test_new_figures_count_at_least_as_much_as_old_ones(tmp_path) -> None:
    known = Calibration(tmp_path / "c.json")
    known.learn("a", RATE)
    known.learn("a", Rate(decode=0.3, compute=0.4, encode=0.5, wall=1.0, megapixels=1.0))
    assert abs(known.rates["a"].wall - 0.75) < 1e-9


def test_other_engines_and_machines_are_other_entries() -> None:
    plan, other = a_plan(), a_plan({"effort": "fast"})
    names = {
        key(plan.recipe, plan.placement, a_machine()),
        key(plan.recipe, plan.placement, a_machine(cores=8)),
        key(other.recipe, other.placement, a_machine()),
    }
    assert len(names) == 3
    ring = replace(plan.placement, offload="ring")
    placed = (ring, replace(ring, resident_blocks=3), replace(ring, bandwidth=0.5))
    assert len({key(plan.recipe, p, a_machine()) for p in placed}) == 3
    idle = replace(plan.placement, resident_blocks=3)  # of no meaning where all is resident
    assert key(plan.recipe, idle, a_machine()) == key(plan.recipe, plan.placement, a_machine())


def test_a_damaged_file_counts_as_empty(tmp_path) -> None:
    for text in ("", "{", "[]", '{"rates": {"a": {"x": 1}}}'):
        (tmp_path / "c.json").write_text(text)
        assert Calibration(tmp_path / "c.json").rates == {}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    Calibration(tmp_path / "file" / "c.json").learn("a", RATE)
