"""The house rules that a tool can check; CONTRIBUTING.md says them in words."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "longtake"
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 400
SHUNNED = {"utils", "util", "helpers", "common", "manager", "managers", "base"}

REPORT = """
import json, sys
sys.stderr.write("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_after(code: str, *arguments: str) -> set[str]:
    """Top-level names in sys.modules after a fresh Python ran the code with these arguments."""
    program = f"import atexit\natexit.register(lambda: exec({REPORT!r}))\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"COLUMNS": "100"},
    )
    words, _, names = done.stderr.rpartition("\n")
    assert done.returncode == 0, done.stdout + words
    return set(json.loads(names))


def command(*arguments: str) -> set[str]:
    """What is loaded after `longtake ...` has run; like the installed script, seen from inside."""
    code = "import sys\nfrom longtake.cli.main import main\nsys.exit(main())"
    return loaded_after(code, *arguments)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small grey frames."""
    path = tmp_path_factory.mktemp("house") / "film.mp4"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=Fraction(24))
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for level in range(0, 240, 30):
            picture = np.full((36, 64, 3), level, np.uint8)
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        target.mux(stream.encode())
    return path


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


# --- floors --------------------------------------------------------------------------------------


def test_imports_go_down_only() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "module", ["longtake", "longtake.cli.main", "longtake.planner.planner", "longtake.journal"]
)
def test_import_does_not_load_torch(module: str) -> None:
    assert "torch" not in loaded_after(f"import {module}")


def test_help_probe_doctor_engines_do_not_load_torch(film: Path) -> None:
    for arguments in (["--help"], ["probe", str(film)], ["doctor", "--short"], ["engines"]):
        assert "torch" not in command(*arguments), arguments


@pytest.mark.parametrize("engine", ["lite", "resize"])
def test_plan_does_not_load_torch(engine: str, film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    assert "torch" not in command("plan", "upscale", str(film), str(target), "--engine", engine)
    assert not target.exists()


def test_resize_needs_no_torch(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    assert "torch" not in command("upscale", str(film), str(target), "--engine", "resize")
    assert target.exists()


def test_core_needs_only_numpy_and_the_standard_library() -> None:
    modules = [f"longtake.core.{path.stem}" for path in sorted((SOURCE / "core").glob("[!_]*.py"))]
    assert modules
    code = "".join(f"from {module} import *\n" for module in modules)
    extra = loaded_after(code) - loaded_after("import numpy") - set(sys.stdlib_module_names)
    assert extra == {"longtake"}


# --- files ---------------------------------------------------------------------------------------


def test_files_are_short() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_no_file_is_a_drawer() -> None:
    parts = {
        path: {part.removesuffix(".py").lstrip("_") for part in path.relative_to(SOURCE).parts}
        for path in FILES
    }
    assert [path for path, names in parts.items() if names & SHUNNED] == []


def test_only_the_edges_print() -> None:
    below = [path for path in FILES if SOURCE / "cli" not in path.parents]
    assert [path for path in below if any(name_of(call) == "print" for call in calls(path))] == []


def test_weights_are_loaded_strictly() -> None:
    lax = [
        path
        for path in FILES
        for call in calls(path)
        if name_of(call) in {"load_state_dict", "load_model"}
        for word in call.keywords
        if word.arg == "strict" and ast.unparse(word.value) == "False"
    ]
    assert lax == []


def test_text_is_utf_8_on_every_system() -> None:
    """Without an encoding, Windows takes its own."""
    lax = []
    for path in FILES:
        for call in calls(path):
            name, modes = name_of(call), [a for a in call.args if isinstance(a, ast.Constant)]
            mode = next((a.value for a in modes if str(a.value)[:1] in set("rwax")), "r")
            opens = name == "open" and (
                isinstance(call.func, ast.Name) or not call.args or call.args[0] in modes
            )
            text = name == "write_text" or (name == "read_text" and not call.args)
            text = text or (opens and "b" not in str(mode))
            if text and "encoding" not in {word.arg for word in call.keywords}:
                lax.append(f"{path.relative_to(SOURCE)}:{call.lineno}")
    assert lax == []


def test_modules_of_one_system_are_imported_where_they_are_used() -> None:
    """Windows has no fcntl, other systems no msvcrt: never at the top of a file."""
    alien = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "msvcrt", "winreg"}
    found = [
        f"{path.relative_to(SOURCE)}: {name.name}"
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import)
        for name in node.names
        if name.name in alien
    ]
    assert found == []


# --- package -------------------------------------------------------------------------------------


def test_wheel_carries_weights_types_and_command(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    build = f"-m pip wheel -q --no-deps --no-index --no-build-isolation -w {tmp_path} {tree}"
    subprocess.run([sys.executable, *build.split()], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("longtake-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {info.filename: info.file_size for info in archive.infolist()}
        entry = next(name for name in inside if name.endswith("entry_points.txt"))
        assert b"longtake = longtake.cli.main:main" in archive.read(entry)
    for look in ("faithful", "crisp"):
        assert inside[f"longtake/weights/lite_{look}.safetensors"] > 0
    assert "longtake/py.typed" in inside
    ours = {path.relative_to(ROOT / "src").as_posix() for path in FILES}
    assert ours <= inside.keys()
    others = {name.partition("/")[0] for name in inside} - {"longtake"}
    assert all(name.endswith(".dist-info") for name in others)
