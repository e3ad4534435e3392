"""What `doctor` says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    state: Literal["good", "note", "bad"]
    says: str  # what was found and, unless good, what it costs and what to do
