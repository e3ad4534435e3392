"""`longtake engines`"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from longtake.cli.options import add_json
from longtake.cli.show import print_json
from longtake.core.knobs import ranges, settle
from longtake.core.plugins import find, names
from longtake.core.ports import Engine
from longtake.planner.planner import SEGMENT_FRAMES
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(given: argparse.Namespace, settings: Settings) -> int:
    found = [_described(name, find("engines", name)) for name in names("engines")]
    if given.json:
        print_json(found)
        return 0
    table = Table("engine", "knob", "default", "range", "what it does", box=None, padding=(0, 1))
    for engine in found:
        devices = ", ".join(engine["devices"])
        table.add_row(f"[bold]{engine['name']}[/bold]", "", "", devices, engine["about"])
        for knob in engine["knobs"]:
            allowed = knob["allowed"]
            table.add_row("", knob["name"], str(knob["default"]), allowed, knob["help"])
    Console(highlight=False).print(table)
    return 0


def _described(name: str, engine: Engine) -> dict[str, Any]:
    length = engine.grid(settle(engine.knobs, {})).segment_frames
    known = {**ranges(engine.knobs), "segment_frames": (length, SEGMENT_FRAMES)}
    return {
        "name": name,
        "about": engine.about,
        "devices": list(engine.devices),
        "scales": [float(s) for s in engine.scales],
        "knobs": [
            {"name": k, "default": default, "allowed": str(limit), **asdict(limit)}
            for k, (default, limit) in known.items()
        ],
    }
