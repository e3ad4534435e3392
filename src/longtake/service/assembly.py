"""The parts of the service, put together: the application, and the chores beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Depends, FastAPI

from longtake.service import assets, disk, events, outbound, reaping, webhooks
from longtake.service.app import Services, create_app
from longtake.service.auth import Auth, needs
from longtake.service.blobs import Blobs
from longtake.service.database import Database
from longtake.service.routes import admin as admin_routes
from longtake.service.routes import assets as asset_routes
from longtake.service.routes import example as example_routes
from longtake.service.routes import fleet as fleet_routes
from longtake.service.routes import folders as folder_routes
from longtake.service.routes import jobs as job_routes
from longtake.service.routes import logs as log_routes
from longtake.service.routes import presets as preset_routes
from longtake.service.routes import stills as still_routes
from longtake.service.routes import system as system_routes
from longtake.service.routes import uploads as upload_routes
from longtake.service.routes import webhooks as webhook_routes
from longtake.service.routes import weights as weight_routes
from longtake.service.stills import Stills
from longtake.service.uploads import Uploads
from longtake.service.webhooks import deliver
from longtake.service.weights import Pulls
from longtake.settings import Settings

LARGEST: Final = 1 << 40  # bytes of one upload
SENDERS: Final = 4  # of webhooks: one that waits for an answer holds up no other
EXPIRY: Final = 24 * 3600  # s without a byte

Chore = tuple[Callable[[], int], float]
"""What is to be done again and again, and seconds of rest when it found nothing."""


def assemble(
    settings: Settings, database: Database, auth: Auth, prefix: str = ""
) -> tuple[FastAPI, dict[str, Chore]]:
    """The application, and what must be done while it runs, by name."""
    blobs = Blobs(settings.data)
    mark = disk.low_water(settings.data, settings.low_water)
    uploads = Uploads(database, blobs, largest=LARGEST, low_water=mark, expiry_seconds=EXPIRY)
    stills = Stills(database, blobs)
    app = create_app(Services(
        database=database, auth=auth, prefix=prefix, page=_page(),
        routers=(
            _uploading(uploads, auth),
            example_routes.router(database, uploads),
            asset_routes.router(database, blobs, settings.roots),
            folder_routes.router(settings.roots),
            fleet_routes.router(database),
            log_routes.router(database),
            admin_routes.router(database),
            preset_routes.router(database),
            job_routes.router(database, blobs, settings.calibration),
            system_routes.router(
                database, settings.data, roots=settings.roots, low_water=mark
            ),
            webhook_routes.router(database, settings.callable),
            weight_routes.router(Pulls(database)),
            still_routes.router(stills),
        ),
    ))  # fmt: skip
    send = partial(outbound.post, allow=settings.callable)
    senders: dict[str, Chore] = {
        f"deliveries {i}": (partial(deliver, database, send, f"serve {i}"), 1.0)
        for i in range(SENDERS)
    }
    return app, senders | {
        "assets": (partial(assets.look, database, blobs), 0.5),
        "leases": (partial(reaping.reap, database), 2.0),
        "webhooks": (partial(webhooks.spread, database), 1.0),
        "uploads": (uploads.expire, 600.0),
        "stills": (stills.sweep, 60.0),
        "old events": (partial(events.prune, database), 3600.0),
    }


def _uploading(uploads: Uploads, auth: Auth) -> APIRouter:
    scope = "assets:write"
    routes = APIRouter(dependencies=[Depends(needs(scope))])
    owner = upload_routes.router(uploads, lambda request: auth.caller(request, scope).owner)
    routes.include_router(owner)
    return routes


def _page() -> Path | None:
    folder = Path(__file__).parent / "page"
    return folder if (folder / "index.html").exists() else None
