"""The page as it is built: its types are the API's, its size is bounded, and the wheel has it."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "page"
BUILT = ROOT / "src" / "longtake" / "service" / "page"
TOOLS = SOURCES / "node_modules" / ".bin"
FIRST, ALL = 250_000, 380_000  # bytes

built = pytest.mark.skipif(not (BUILT / "index.html").exists(), reason="the page is not built")


@built
def test_types_are_those_of_the_contract(tmp_path) -> None:
    contract, types = tmp_path / "openapi.json", tmp_path / "schema.d.ts"
    subprocess.run([sys.executable, SOURCES / "openapi.py", contract], check=True)
    subprocess.run(
        [TOOLS / "openapi-typescript", contract, "-o", types], check=True, stdout=subprocess.DEVNULL
    )
    told = "page/src/api/schema.d.ts is not of this API: run `make page-types`"
    assert types.read_text() == (SOURCES / "src" / "api" / "schema.d.ts").read_text(), told


@built
def test_texts_are_there_in_both_languages() -> None:
    done = subprocess.run(
        [TOOLS / "vitest", "run"], cwd=SOURCES, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@built
def test_what_a_browser_loads_is_small_and_ours() -> None:
    """For the first screen at most `FIRST` bytes, compressed, and no more than `ALL` ever."""
    page = (BUILT / "index.html").read_text()
    first = {BUILT / name for name in re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page)}
    rest = {path for path in (BUILT / "assets").iterdir() if path.suffix in (".js", ".css")}
    assert len(first) >= 2
    assert compressed(first) <= FIRST
    assert compressed(rest) <= ALL
    assert "http" not in page.replace("http-equiv", "")
    assert '<base href="/" />' in page  # the server writes its prefix here
    assert '<meta name="csp-nonce" content="" />' in page


def compressed(files: Iterable[Path]) -> int:
    return sum(len(gzip.compress(path.read_bytes())) for path in files)


@built
def test_the_wheel_has_the_page_and_nothing_it_was_made_of(tmp_path) -> None:
    tree = tmp_path / "tree"
    unwanted = shutil.ignore_patterns("node_modules", "*.egg-info", "__pycache__")
    for name in ("src", "page"):
        shutil.copytree(ROOT / name, tree / name, ignore=unwanted)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tree)
    build = f"-m pip wheel -q --no-deps --no-index --no-build-isolation -w {tmp_path} {tree}"
    subprocess.run([sys.executable, *build.split()], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("longtake-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    page = "longtake/service/page/"
    ours = {path.relative_to(BUILT).as_posix() for path in BUILT.rglob("*") if path.is_file()}
    assert {name.removeprefix(page) for name in names if name.startswith(page)} == ours
    assert not [name for name in names if "node_modules" in name or name.startswith("page/")]
    assert wheel.stat().st_size < 6_000_000
