"""The documents say what is: links, commands, files and dependencies in them exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from longtake.cli.main import COMMANDS, _parser
from longtake.cli.options import spread

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "longtake"
UNREAD = {".venv", "build", "dist", "node_modules"}  # beside hidden folders
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part in UNREAD or part[0] == "." for part in path.relative_to(ROOT).parts)
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"`([\w.-]+/[\w./-]*)`")  # `media/probe.py`, `examples/`
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def commands(page: Path) -> list[str]:
    """Lines after `$ ` in ```console blocks, joined at a backslash, without comments."""
    blocks = (body for kind, body in FENCE.findall(page.read_text()) if kind == "console")
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.join(shlex.split(line[2:], comments=True)) for line in lines if line[:2] == "$ "]


def headings(page: Path) -> list[tuple[int, str]]:
    found = re.findall(r"^(#+) (.+)$", prose(page), re.MULTILINE)
    return [(len(marks), title) for marks, title in found]


def anchor(title: str) -> str:
    """The anchor that a heading gets on the web."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        anchors = (
            {anchor(title) for _, title in headings(target)}
            if fragment and target.exists()
            else {""}
        )
        if not target.exists() or fragment not in anchors:
            broken.append(link)
    assert broken == []


@each_page
def test_files_named_exist(page: Path) -> None:
    """A path in backticks whose first folder is ours must exist; `x` and `my_...` are examples."""
    missing = []
    for name in NAMED.findall(prose(page)):
        first, last = name.split("/")[0], name.rstrip("/").split("/")[-1]
        homes = [home for home in (ROOT, SOURCE, page.parent) if (home / first).is_dir()]
        if first in UNREAD or last.split(".")[0] == "x" or last.startswith("my_") or not homes:
            continue
        if not any((home / name).exists() for home in homes):
            missing.append(name)
    assert missing == []


@each_page
def test_commands_are_understood(page: Path) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    for line in commands(page):
        program, *arguments = shlex.split(line)
        if program == "make":
            assert {word for word in arguments if "=" not in word} <= targets, line
        elif program == "longtake":
            assert understood(arguments), line


def understood(arguments: list[str]) -> bool:
    wanted = next((word for word in arguments if word in COMMANDS), None)
    try:
        _parser(wanted).parse_args(list(spread(arguments)))
    except SystemExit as end:  # --help ends with 0, a wrong flag with 2
        return not end.code
    return True


def test_both_readmes_say_the_same() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh.md"
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert commands(english) == commands(chinese)
    assert english.name in chinese.read_text()
    assert chinese.name in english.read_text()


# --- dependencies --------------------------------------------------------------------------------


def pins() -> set[str]:
    text = (ROOT / "constraints.txt").read_text()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    pairs = [line.split("==") for line in lines if line]
    return {canonicalize_name(name) for name, _ in pairs}


def declared() -> set[str]:
    """What pyproject.toml asks for, in all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    return names - {"longtake"}


def brought_along(names: set[str]) -> set[str]:
    """The names and all that their installed packages need here, without extras and CUDA."""
    found: set[str] = set()
    left = set(names)
    while left:
        name = left.pop()
        found.add(name)
        try:
            needs = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:  # an extra that is not installed
            continue
        here = (n.name for n in needs if n.marker is None or n.marker.evaluate({"extra": ""}))
        left |= {canonicalize_name(need) for need in here} - found
    return {name for name in found if not name.startswith(("nvidia-", "cuda-", "triton"))}


def test_every_dependency_is_pinned() -> None:
    needed = declared() | brought_along(declared())
    assert pins() == needed


def test_every_dependency_is_explained() -> None:
    table = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE)
    explained = {canonicalize_name(n) for cell in table for n in re.findall(r"[\w-]+", cell)}
    assert declared() - explained == set()
