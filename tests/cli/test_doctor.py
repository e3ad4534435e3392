"""`longtake doctor`, on this machine and on one whose driver is a fake."""

from __future__ import annotations

import json
import re
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from longtake.runtime import checkdisk, checkgpu, diskspeed
from longtake.runtime.check import Check
from tests.plans import a_gpu, a_machine

FAKE = Path(__file__).resolve().parent.parent / "fake_nvml"
STATES = {"good", "note", "bad"}


def told(longtake, *flags: str, **env: str) -> tuple[int, dict[str, Any]]:
    ended = longtake("doctor", "--json", *flags, **env)
    assert "Traceback" not in ended.stderr
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert all(each["event"] == "check" and each["state"] in STATES for each in found)
    return ended.returncode, {each["name"]: each for each in found}


def with_gpu(longtake, **facts: Any) -> tuple[int, dict[str, Any]]:
    return told(longtake, "--short", PYTHONPATH=str(FAKE), FAKE_NVML=json.dumps(facts))


def test_a_machine_without_a_gpu(longtake) -> None:
    code, found = told(longtake, "--short")
    assert code == 0
    assert re.match(r"[\d.]+ [GM]iB free of [\d.]+ [GM]iB", found["RAM"]["says"])
    assert found["allocator"]["state"] == "good"
    assert "without a GPU" in found["allocator"]["says"]
    assert not any("disk of" in name for name in found)  # nothing is measured


def test_each_thing_of_a_gpu_is_told(longtake) -> None:
    code, found = with_gpu(longtake)
    assert code == 0
    assert "550.54.14 (CUDA up to 12.4)" in found["driver"]["says"]
    assert found["bus of GPU 0"]["says"].startswith("PCIe 4.0 x16, 32 GB/s")
    assert "set before torch is loaded" in found["allocator"]["says"]
    assert "clocks of GPU 0" not in found
    assert {"locked memory", "operators", "flex on GPU 0"} <= set(found)


@pytest.mark.parametrize(
    ("facts", "name", "words"),
    [
        ({"width": 4}, "bus of GPU 0", "4 times slower"),
        ({"width": None}, "bus of GPU 0", "does not say"),
        ({"reasons": 0x40, "celsius": 91}, "clocks of GPU 0", "at 91 °C: thermal slowdown"),
        ({"reasons": 0x20, "celsius": None}, "clocks of GPU 0", "down: thermal slowdown"),
    ],
)
def test_what_slows_a_gpu_is_told_with_what_to_do(longtake, facts, name, words) -> None:
    _, found = with_gpu(longtake, **facts)
    assert found[name]["state"] == "note"
    assert words in found[name]["says"]


def test_a_power_cap_is_no_fault(longtake) -> None:
    assert "clocks of GPU 0" not in with_gpu(longtake, reasons=0x4)[1]


def test_an_allocator_of_the_users_own(longtake) -> None:
    env = {"PYTHONPATH": str(FAKE), "PYTORCH_ALLOC_CONF": "backend:native"}
    check = told(longtake, "--short", **env)[1]["allocator"]
    assert check["state"] == "note"
    assert "backend:native" in check["says"]


@pytest.mark.parametrize(
    ("built", "driver", "state", "words"),
    [
        ("12.8", (12, 4), "good", "they fit"),
        ("13.0", (12, 4), "bad", "Install driver 580 or later, or torch for CUDA 12"),
        ("11.8", (12, 4), "good", "they fit"),
        (None, (12, 4), "good", "the installed torch has no CUDA"),
        ("12.8", None, "good", "torch is built for CUDA 12.8"),
    ],
)
def test_driver_and_torch_fit_or_not(monkeypatch, tmp_path, built, driver, state, words) -> None:
    (tmp_path / "version.py").write_text(f"cuda: Optional[str] = {built!r}\nhip = None\n")
    spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(checkgpu.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(checkgpu, "_cuda_of_driver", lambda: driver)
    monkeypatch.setattr(checkgpu, "link", lambda uuid: None)
    first, *_ = checkgpu.checks(a_machine(gpus=(a_gpu(driver="550.54.14"),)))
    assert (first.name, first.state) == ("driver", state)
    assert words in first.says


# --- disks ---------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_measured_and_left_as_it_was(tmp_path) -> None:
    speed = diskspeed.measure(tmp_path / "weights" / "none")
    assert speed.rate > 1e6
    assert 0 < speed.bytes <= diskspeed.MOST
    assert speed.seconds < 2
    assert speed.of == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_read_and_not_changed(tmp_path) -> None:
    path = tmp_path / "model" / "large.safetensors"
    path.parent.mkdir()
    path.write_bytes(bytes(diskspeed._LEAST + 5))
    before = path.stat().st_mtime_ns
    speed = diskspeed.measure(tmp_path)
    assert (speed.of, speed.bytes) == (path, diskspeed._LEAST)
    assert path.stat().st_mtime_ns == before
    assert [*tmp_path.iterdir()] == [path.parent]


def checked(monkeypatch, tmp_path, rate: float, gpu: str) -> dict[str, Check]:
    """Of a disk that gives so many bytes/s."""
    speed = diskspeed.Speed(bytes=int(rate), seconds=1.0, direct=True, of=tmp_path)
    monkeypatch.setattr(diskspeed, "measure", lambda folder: speed)
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path))
    machine = a_machine(gpus=(a_gpu(name=gpu),), torch="2.13.0")
    return {x.name: x for x in checkdisk.checks(machine, tmp_path, tmp_path)}


@pytest.mark.parametrize(
    ("rate", "disk", "hidden"), [(7e9, "good", "good"), (0.3e9, "note", "note")]
)
def test_whether_a_disk_is_fast_enough_for_14b(monkeypatch, tmp_path, rate, disk, hidden) -> None:
    found = checked(monkeypatch, tmp_path, rate, "NVIDIA GeForce RTX 4090")
    assert found["disk of both"].state == disk
    check = found["14B on GPU 0"]
    assert check.state == hidden
    needed = re.search(r"hidden from ([\d,]+) MB/s", check.says)
    assert needed is not None
    enough = float(needed[1].replace(",", "")) * 1e6
    assert (rate >= enough) == (hidden == "good")
    if hidden == "note":
        kept = re.search(r"here (\d+) of (\d+) blocks", check.says)
        assert kept is not None
        left = (int(kept[2]) - int(kept[1])) / int(kept[2])
        assert left <= rate / enough * 1.001
        assert left + 1 / int(kept[2]) > rate / enough * 0.999  # one fewer is not enough


def test_a_gpu_whose_speed_is_not_known(monkeypatch, tmp_path) -> None:
    found = checked(monkeypatch, tmp_path, 7e9, "a card")
    assert "not known" in found["14B on GPU 0"].says


def test_all_of_it_at_once(longtake, tmp_path) -> None:
    """The disk is measured, and every engine that can run here."""
    env = {"LONGTAKE_CACHE": str(tmp_path), "LONGTAKE_WEIGHTS": str(tmp_path / "weights")}
    code, found = told(longtake, **env)
    assert code == 0
    (disk,) = [each for name, each in found.items() if name in ("disk of both", "disk of weights")]
    assert "MB/s" in disk["says"]
    assert found["engine resize"]["state"] == "good"
    assert not (tmp_path / "weights").exists()
