"""Settings of the process, read once in main() and passed down; never a global."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longtake.core.errors import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    cache: Path  # LONGTAKE_CACHE: calibration and other things that may be lost
    data: Path  # LONGTAKE_DATA: what the service keeps: uploads, films, its database
    database: str  # LONGTAKE_DB: sqlite:///PATH or postgresql://...; in `data` by default
    roots: tuple[Path, ...] = ()  # LONGTAKE_ROOTS: folders whose films may be named by path
    hosts: tuple[str, ...] = ()  # LONGTAKE_HOSTS: names that the service is called by
    callable: frozenset[str] = frozenset()  # LONGTAKE_WEBHOOK_ALLOW: private hosts it may call
    low_water: int | None = None  # LONGTAKE_LOW_WATER: bytes of the data's disk that stay free

    @property
    def calibration(self) -> Path:
        return self.cache / "calibration.json"

    @staticmethod
    def of(environment: Mapping[str, str] = os.environ) -> Settings:
        """From the environment; the platform's usual cache folder by default."""
        data = _folder(environment, "LONGTAKE_DATA", "XDG_DATA_HOME", ".local/share")
        roots = filter(None, environment.get("LONGTAKE_ROOTS", "").split(os.pathsep))
        hosts, allowed = (
            [host.strip() for host in environment.get(name, "").split(",") if host.strip()]
            for name in ("LONGTAKE_HOSTS", "LONGTAKE_WEBHOOK_ALLOW")
        )
        return Settings(
            cache=_folder(environment, "LONGTAKE_CACHE", "XDG_CACHE_HOME", ".cache"),
            data=data,
            database=environment.get("LONGTAKE_DB") or f"sqlite:///{data / 'service.db'}",
            roots=tuple(Path(root).expanduser() for root in roots),
            hosts=tuple(hosts),
            callable=frozenset(allowed),
            low_water=_size(environment, "LONGTAKE_LOW_WATER"),
        )


def _size(environment: Mapping[str, str], name: str) -> int | None:
    """Bytes; None where nothing is given. Raises Usage."""
    given = environment.get(name, "").strip()
    if not given:
        return None
    match = re.fullmatch(r"(\d{1,18})([KMGT]?)", given, re.IGNORECASE | re.ASCII)
    if match is None:
        raise Usage(f"{name}={given}: give bytes, or a size such as 8G.")
    return int(match[1]) << 10 * " KMGT".index(match[2].upper() or " ")


def _folder(environment: Mapping[str, str], own: str, shared: str, usual: str) -> Path:
    """What the environment names, else the platform's folder for such things."""
    if given := environment.get(own):
        return Path(given).expanduser()
    if sys.platform == "win32":
        home = Path(environment.get("LOCALAPPDATA", Path.home() / "AppData/Local"))
    elif sys.platform == "darwin":
        library = "Library/Caches" if "CACHE" in own else "Library/Application Support"
        home = Path.home() / library
    else:
        home = Path(environment.get(shared) or Path.home() / usual)
    return home / "longtake"
