"""`longtake engines`"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from longtake.cli.options import add_json
from longtake.cli.show import print_json
from longtake.core.plugins import names
from longtake.runtime.engines import described, generator
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    add_json(parser)


def run(given: argparse.Namespace, settings: Settings) -> int:
    found = [described(name) for name in names("engines")]
    found += [generator(name) for name in names("generators")]
    if given.json:
        print_json(found)
        return 0
    table = Table(
        "engine", "preset, knob", "default", "range", "what it does", box=None, padding=(0, 1)
    )
    for engine in found:
        devices = ", ".join(engine["devices"])
        table.add_row(f"[bold]{engine['name']}[/bold]", "", "", devices, engine["about"])
        for preset in engine["presets"]:
            knobs = " ".join(f"{name}={value}" for name, value in preset["knobs"].items())
            table.add_row("", f"--preset {preset['name']}", "", knobs, preset["about"])
        for knob in engine["knobs"]:
            allowed = knob["allowed"]
            table.add_row("", knob["name"], str(knob["default"]), allowed, knob["help"])
    Console(highlight=False).print(table)
    return 0
