"""`longtake recover OUT.longtake [OUT]`"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from longtake.cli.options import add_json
from longtake.cli.show import draw
from longtake.runtime.salvage import salvage
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the work folder OUT.longtake")
    parser.add_argument(
        "target", type=Path, metavar="OUT", nargs="?", help="default: OUT.partial of the job"
    )
    add_json(parser)


def run(given: argparse.Namespace, settings: Settings) -> int:
    with closing(salvage(given.folder, given.target)) as events:  # type: ignore[type-var]
        draw(events, (), given.json)
    return 0
