"""A host that serves the toys, and the toys in the catalogue."""

from __future__ import annotations

import pytest

from longtake.weights import catalog, download
from tests.weights import toy
from tests.weights.host import Host, serving


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(download, "PAUSES", (0.0,))
    with serving(Host()) as host:
        yield host


@pytest.fixture(scope="session")
def official() -> dict[str, dict[str, bytes]]:
    """The official files of both versions."""
    return {version: toy.contents(version) for version in toy.SEED}


@pytest.fixture
def toys(official, monkeypatch, tmp_path):
    """v1.0 with no published hash, v1.1 with all; and a home for weights."""
    both = (toy.model("v1.0"), toy.model("v1.1", official["v1.1"]))
    for each in both:
        monkeypatch.setitem(catalog.MODELS, each.name, each)
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path / "home"))
    return both
