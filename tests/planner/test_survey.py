"""The machine as it is, without torch; and as control groups say it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longtake.core.machine import Machine
from longtake.planner import survey


def test_this_machine() -> None:
    machine = survey.survey()
    assert isinstance(machine, Machine)
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert 0 < machine.free_ram <= machine.ram
    assert machine.torch


@pytest.fixture
def cgroup(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(survey, "_CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "used"),
    [("memory.max", "memory.current"),
     ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")],
)  # fmt: skip
def test_a_control_group_limits_the_memory(cgroup, limit, used) -> None:
    (cgroup / "memory").mkdir()
    (cgroup / limit).write_text(str(1 << 30))
    (cgroup / used).write_text(str(200 << 20))
    machine = survey.survey()
    assert machine.ram == 1 << 30
    assert machine.free_ram == (1 << 30) - (200 << 20)


def test_no_limit_is_no_limit(cgroup) -> None:
    (cgroup / "memory.max").write_text("max")
    (cgroup / "memory.current").write_text("1")
    (cgroup / "cpu.max").write_text("max 100000")
    assert survey.survey().ram > 1 << 30


def test_a_control_group_limits_the_cores(cgroup) -> None:
    (cgroup / "cpu.max").write_text("100000 100000")
    assert survey.survey().cores == 1


def test_no_driver_is_no_gpu() -> None:
    if not survey.gpus():
        assert survey.survey().gpus == ()


def test_threads_wait_asleep_unless_the_user_says_otherwise(monkeypatch) -> None:
    monkeypatch.setattr(os, "environ", {"PYTORCH_CUDA_ALLOC_CONF": "mine"})
    survey.launch()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "mine"
    os.environ["OMP_WAIT_POLICY"] = "ACTIVE"
    survey.launch()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
