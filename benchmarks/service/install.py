"""What an installation fetches, and how soon and in what memory the service answers.

    python -m benchmarks.service.install

Builds the wheel, fetches it with all it needs into an empty environment, and starts `longtake
serve` there three times: seconds until the page and the API have answered, and the resident memory
of the service's process (without its workers) half a minute later. Needs the package index. Writes
a table to stdout; paste it with machine and date into README.md beside this file.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
IDLE = 30.0  # s
MB = 1_000_000


def fetched(folder: Path) -> Path:
    """The wheel of this tree and of all it needs, in one folder."""
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", wheels, ROOT], check=True)
    (ours,) = wheels.glob("longtake-*.whl")
    constraints = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, "download", *constraints, "-d", wheels, ours], check=True)
    return wheels


def sizes(wheels: Path) -> None:
    own = sum(path.stat().st_size for path in wheels.glob("longtake-*"))
    every = sum(path.stat().st_size for path in wheels.iterdir())
    torch = sum(
        path.stat().st_size
        for name in ("torch-*", "nvidia_*cu*", "triton-*", "cuda_*")
        for path in wheels.glob(name)
    )
    print("| longtake's wheel | all downloads without torch | with torch |\n|---|---|---|")
    print(f"| {own / MB:.1f} MB | {(every - torch) / MB:.1f} MB | {every / MB:.1f} MB |\n")


def started(python: Path, data: Path) -> tuple[float, float]:
    """Seconds until page and API answer, and MB when it has been idle for a while."""
    env = {**os.environ, "LONGTAKE_DATA": str(data), "LONGTAKE_CACHE": str(data)}
    words = [str(python.parent / "longtake"), "serve", "--port", "18484", "--log", "text"]
    began = time.monotonic()
    process = subprocess.Popen(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"(http://\S+?)/\?token", process.stdout.readline())
        assert found
        for path in ("/", "/api/v1/openapi.json"):
            while not answered(found[1] + path):
                time.sleep(0.05)
        took = time.monotonic() - began
        time.sleep(IDLE)
        return took, psutil.Process(process.pid).memory_info().rss / MB
    finally:
        process.terminate()
        process.wait(30)


def answered(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        wheels = fetched(folder)
        sizes(wheels)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / "bin" / "python"
        pip = [str(python), "-m", "pip", "-q"]
        wanted = ["--no-index", "-f", str(wheels), "longtake"]
        subprocess.run([*pip, "install", *wanted], check=True)
        subprocess.run([*pip, "check"], check=True)
        runs = [started(python, folder / f"data{i}") for i in range(3)]
        print("| page and API answer after | resident, idle |\n|---|---|")
        for took, size in runs:
            print(f"| {took:.1f} s | {size:.0f} MB |")
        print(f"\nmedian {statistics.median(run[0] for run in runs):.1f} s")


if __name__ == "__main__":
    main()
