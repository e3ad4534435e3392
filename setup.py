"""Puts the page into what is built, where npm is there; all else stands in pyproject.toml.

`longtake serve` works without the page and says so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).parent
SOURCES = HERE / "page"
BUILT = HERE / "src" / "longtake" / "service" / "page" / "index.html"


def page() -> None:
    """Build the page, unless it is there: an archive of the sources has it already."""
    npm = shutil.which("npm")
    if BUILT.exists() or not (SOURCES / "package-lock.json").exists():
        return
    if npm is None:
        sys.stderr.write("longtake: no npm, so this build has no page (Node 20.19 or newer)\n")
        return
    try:
        subprocess.run([npm, "ci", "--include=dev", "--no-audit"], cwd=SOURCES, check=True)
        subprocess.run([npm, "run", "build"], cwd=SOURCES, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"longtake: this build has no page: {error}\n")


class BuildPy(build_py):
    def run(self) -> None:
        if not self.editable_mode:
            page()
            self.__dict__.pop("data_files", None)  # listed anew, with the page
        super().run()


class Sdist(sdist):
    def run(self) -> None:
        page()
        super().run()


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
