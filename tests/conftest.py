"""What every room's tests may use: the command itself and real clips."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CLIPS = ROOT.parent / "shared" / "clips"  # real films; they stay out of the repository

if "PYTEST_XDIST_WORKER" in os.environ:  # one core each: threads of two workers would fight
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def longtake() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed command: longtake("probe", film, VARIABLE="x") -> exit code and output."""
    command = Path(sys.executable).with_name("longtake")

    def run(
        *arguments: object, timeout: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "100"} | environment,
        )

    return run


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of real clips; tests that need it are skipped where it is absent."""
    if not CLIPS.is_dir():
        pytest.skip(f"real clips are not here: {CLIPS}")
    return CLIPS


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
