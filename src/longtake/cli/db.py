"""`longtake db`"""

from __future__ import annotations

import argparse

from longtake.service.database import Database
from longtake.service.upgrade import check, copy, newest, upgrade
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    commands.add_parser("upgrade", help="make or change the tables; of SQLite a backup is kept")
    commands.add_parser("check", help="say whether the tables are those of this version")
    moving = commands.add_parser("copy", help="copy all rows into an empty database")
    moving.add_argument("target", metavar="URL", help="postgresql://... or sqlite:///PATH")


def run(given: argparse.Namespace, settings: Settings) -> int:
    database = Database(settings.database)
    try:
        if given.what == "upgrade":
            before = upgrade(database)
            print(f"{before or 'empty'} -> {newest()}")
        elif given.what == "check":
            check(database)
            print(newest())
        else:
            target = Database(given.target)
            rows = copy(database, target)
            target.close()
            print(f"{rows} rows")
    finally:
        database.close()
    return 0
