"""A plugin's file name is its name: engines/resize.py is `--engine resize`."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import Any

from longtake.core.errors import UnknownPlugin


def find(group: str, name: str) -> Any:
    """The object `plugin` of longtake.<group>.<name>, or of an installed entry point.

    Third parties register under the entry-point group "longtake.<group>".
    """
    if name in _own(group):
        return importlib.import_module(f"longtake.{group}.{name}").plugin
    for point in entry_points(group=f"longtake.{group}", name=name):
        return point.load()
    raise UnknownPlugin(f"{group}/{name}; there are: {', '.join(names(group))}")


def names(group: str) -> list[str]:
    """Names of all plugins of a group: our own files and installed entry points."""
    return sorted({*_own(group), *(p.name for p in entry_points(group=f"longtake.{group}"))})


def _own(group: str) -> list[str]:
    package = importlib.import_module(f"longtake.{group}")
    return [m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_"]
