"""Writes the contract of the API, which the page's types are made of: build/openapi.json."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from longtake.service.assembly import assemble
from longtake.service.auth import Auth
from longtake.service.database import Database
from longtake.settings import Settings


def contract() -> str:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        database = Database(f"sqlite:///{folder / 'no.db'}")
        settings = Settings(cache=folder, data=folder, database=str(database.engine.url))
        app, _ = assemble(settings, database, Auth(database, "local"))
        database.close()
        return json.dumps(app.openapi(), indent=1) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(exist_ok=True)
    target.write_text(contract())
