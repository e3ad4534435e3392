"""What `doctor` says of GPUs, without one."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

from longtake.nets.flashvsr import needs
from longtake.runtime.check import Check
from longtake.runtime.checkup import checks
from tests.plans import a_gpu, a_machine


def said(monkeypatch, **gpu) -> dict[str, Check]:
    monkeypatch.setattr(needs.importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setenv("CC", "sh")
    machine = a_machine(gpus=(a_gpu(**gpu),), torch="2.13.0")
    return {check.name: check for check in checks(machine, Path.cwd())}


def test_every_kernel_is_used_or_says_why_not(monkeypatch) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    new = said(monkeypatch)
    assert new["flex on GPU 0"].state == "good"
    assert new["numbers on GPU 0"].says == "bfloat16 is used"
    assert new["allocator"].state == "good"
    old = said(monkeypatch, capability=(7, 5))
    assert old["flex on GPU 0"].state == "note"
    assert "7.5" in old["flex on GPU 0"].says
    assert old["numbers on GPU 0"].says.startswith("float16 is used")


def test_an_allocator_that_plans_do_not_know_is_told(monkeypatch) -> None:
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
        monkeypatch.setenv(name, "max_split_size_mb:128")
        check = said(monkeypatch)["allocator"]
        assert check.state == "note"
        assert "max_split_size_mb:128" in check.says


def test_a_compiler_that_lacks_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check = said(monkeypatch)["flex on GPU 0"]
    assert "needs a C compiler" in check.says
    assert check.state == "note"
