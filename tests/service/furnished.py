"""A service in which there is something of everything, for tests of the whole API."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import Table, select, true, update

from longtake.core.plain import to_plain
from longtake.planner.survey import survey
from longtake.service import assets, claiming, fleet, queue, tables
from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.jobs import identifier
from tests.service.serving import client_of

API = "/api/v1"
TUS = {"Tus-Resumable": "1.0.0"}
PARAMS = {"engine": "resize", "scale": 2, "codec": "ffv1", "set": {"segment_frames": 8}}


@dataclass(slots=True)
class House:
    """A service in which there is something of everything."""

    app: FastAPI
    database: Database
    data: Path
    film: Path
    owner: str
    header: str
    web: httpx.Client = field(init=False)
    seen: str | None = None
    known: dict[str, str] = field(default_factory=dict)
    draw: random.Random = field(default_factory=lambda: random.Random(17))

    def __post_init__(self) -> None:
        self.web = client_of(self.app)
        self.web.headers["authorization"] = self.header

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.web.post(f"{API}/{path}", json=body)
        assert answer.is_success, answer.text
        return dict(answer.json()) if answer.content else {}

    def asset(self) -> str:
        """Looked at by a child the first time; all are of the same film."""
        made = str(self.post("assets", {"path": str(self.film)})["id"])
        if self.seen is None:
            assets.look(self.database, Blobs(self.data))
        table = tables.asset
        with self.database.write() as connection:
            if self.seen is not None:
                about = {"state": "ready", "probe": self.seen}
                connection.execute(update(table).where(table.c.id == made).values(**about))
            found = select(table.c.probe).where(table.c.id == made)
            self.seen = connection.execute(found).scalar_one()
        return made

    def job(self, ready_for: str) -> str:
        """By default one that was cancelled while it was planned, so with an attempt."""
        body = {"asset": self.real("assets"), "params": PARAMS, "container": "mkv"}
        body |= {"priority": 0 if ready_for else 10}  # it is claimed first
        made = str(self.post("jobs", body)["id"])
        if ready_for == "resume":
            self.post(f"jobs/{made}/pause", {})
        elif ready_for != "pause":
            fleet.resume(self.database, self.owner, "cpu")
            held = claiming.claim(self.database, "w", ("cpu",), 60.0)
            while held is not None and held.job != made:  # one that was retried meanwhile
                held = claiming.claim(self.database, "w", ("cpu",), 60.0)
            self.post(f"jobs/{made}/cancel", {"mode": "nothing"})
            if held is not None:
                queue.release(self.database, held, "cancelled")
        return made

    def upload(self) -> str:
        headers = {**TUS, "Upload-Length": "10"}
        made = self.web.post(f"{API}/uploads", headers=headers)
        return made.headers["location"].rpartition("/")[2]

    def webhook(self) -> str:
        made = str(self.post("webhooks", {"url": "http://127.0.0.1:9/hook"})["id"])
        self.post(f"webhooks/{made}/test", {})
        return made

    def user(self) -> str:
        return str(self.post("users", {"name": identifier()})["id"])

    def preset(self) -> str:
        return str(self.post("presets", {"name": identifier(), "params": PARAMS})["id"])

    def token(self) -> str:
        self.post("tokens", {"name": "script", "scopes": ["jobs:read"]})
        return str(self.web.get(f"{API}/tokens").json()["tokens"][-1]["id"])

    def pull(self) -> str:
        self.post("weights/flashvsr-v1.1/pull", {})
        return "flashvsr-v1.1"

    def worker(self) -> str:
        fleet.report(
            self.database, "w", host="here", pid=1, device="cpu", queues="cpu", version="0",
            numerics="x", state="idle", machine=json.dumps(to_plain(survey())),
            telemetry=json.dumps({"ram": 1, "ram_free": 1}),
        )  # fmt: skip
        return "w"

    def let_in(self) -> None:
        """Whoever asks may have ended the own token."""
        free = {"role": "admin", "disabled": None, "quota_jobs": None, "quota_bytes": None,
                "quota_seconds": None}  # fmt: skip
        token, user = tables.token, tables.user
        with self.database.write() as connection:
            connection.execute(
                update(token).where(token.c.owner == self.owner).values(revoked=None)
            )
            connection.execute(update(user).where(user.c.id == self.owner).values(**free))

    def real(self, kind: str, ready_for: str = "") -> str:
        """The id of one that is there, made where there is none. `ready_for`: what a job can be
        told to do."""
        makers = {
            "jobs": lambda: self.job(ready_for), "assets": self.asset, "uploads": self.upload,
            "users": self.user, "webhooks": self.webhook, "presets": self.preset,
            "tokens": self.token, "weights": self.pull, "workers": self.worker,
            "queues": lambda: "gpu",
        }  # fmt: skip
        key = f"{kind} {ready_for}"
        if key not in self.known or not self._there(kind, self.known[key], ready_for):
            self.known[key] = makers[kind]()
        return self.known[key]

    def _there(self, kind: str, name: str, ready_for: str) -> bool:
        if kind not in TABLES:
            return True
        table, usable = TABLES[kind]
        if kind == "jobs":
            usable = tables.job.c.state.in_(STATES.get(ready_for, tables.JOB_ENDED))
        with self.database.read() as connection:
            wanted = select(table.c.id).where(table.c.id == name, usable)
            return connection.execute(wanted).first() is not None

    def delivery(self) -> str:
        hook = self.real("webhooks")
        found = self.web.get(f"{API}/webhooks/{hook}/deliveries").json()["deliveries"]
        return str(found[0]["id"])


STATES = {"pause": ("queued",), "resume": ("paused",)}
TABLES: dict[str, tuple[Table, Any]] = {
    "jobs": (tables.job, true()),
    "assets": (tables.asset, tables.asset.c.state == "ready"),
    "uploads": (tables.upload, tables.upload.c.state == "open"),
    "users": (tables.user, tables.user.c.disabled.is_(None)),
    "webhooks": (tables.webhook, true()),
    "presets": (tables.preset, true()),
    "tokens": (tables.token, tables.token.c.revoked.is_(None)),
}
