"""Settings of the process, read once in main() and passed down; never a global."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    cache: Path  # LONGTAKE_CACHE: calibration and other things that may be lost

    @property
    def calibration(self) -> Path:
        return self.cache / "calibration.json"

    @staticmethod
    def of(environment: Mapping[str, str] = os.environ) -> Settings:
        """From the environment; the platform's usual cache folder by default."""
        given = environment.get("LONGTAKE_CACHE")
        if given:
            return Settings(cache=Path(given).expanduser())
        if sys.platform == "win32":
            home = Path(environment.get("LOCALAPPDATA", Path.home() / "AppData/Local"))
        elif sys.platform == "darwin":
            home = Path.home() / "Library/Caches"
        else:
            home = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return Settings(cache=home / "longtake")
