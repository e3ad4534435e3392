"""`longtake serve`"""

from __future__ import annotations

import argparse
from functools import partial

from longtake.planner.survey import gpus, installed
from longtake.service import fleet, logs, users
from longtake.service.app import Server
from longtake.service.assembly import assemble
from longtake.service.auth import Auth, may_listen
from longtake.service.database import Database
from longtake.service.devices import posts
from longtake.service.supervise import Chores, Workers
from longtake.service.tables import SCOPES
from longtake.service.upgrade import upgrade
from longtake.service.work import LEASE
from longtake.settings import Settings


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=8484)
    parser.add_argument(
        "--auth", choices=("local", "tokens"), default="local",
        help="local: this machine alone, by the address that is printed; tokens: for others, too",
    )  # fmt: skip
    parser.add_argument(
        "--prefix", default="", metavar="/PATH", help="under which a proxy shows it"
    )
    parser.add_argument(
        "--workers", default="auto", metavar="DEVICES",
        help="auto: one for each GPU, else one for the CPU; none; or cuda:0,cpu or UUIDs of GPUs",
    )  # fmt: skip
    parser.add_argument("--log", choices=logs.STYLES, default="auto", help=logs.HELP)
    parser.add_argument("--lease", type=float, default=LEASE, help=argparse.SUPPRESS)


def run(given: argparse.Namespace, settings: Settings) -> int:
    logs.begin(given.log)
    may_listen(given.host, given.auth)
    workers = posts(given.workers, gpus(), installed(), given.port)
    database = Database(settings.database)
    upgrade(database)
    owner = users.local_user(database)
    auth = Auth(database, given.auth, settings.hosts)
    app, chores = assemble(settings, database, auth, given.prefix)
    server = Server(app, host=given.host, port=given.port, log_level="warning", log_config=None)
    if given.auth == "tokens" and not users.tokens(database, owner):
        print(
            f"token of the user local, told once: {users.issue(database, owner, 'first', SCOPES)}"
        )
    address = f"http://{given.host}:{given.port}{given.prefix}"
    print(f"longtake is at {auth.page(address)}", flush=True)
    environment = {"LONGTAKE_DB": settings.database, "LONGTAKE_DATA": str(settings.data)}
    crew = Workers(workers, environment, given.lease, partial(fleet.drained, database), given.log)
    with crew, Chores(chores):
        server.run()
    database.close()
    return 0 if server.started else 1
