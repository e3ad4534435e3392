"""What slows work down, told from what the machine says of itself."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest

from longtake.planner.host import Host
from longtake.runtime import sight
from longtake.runtime.sight import Card, Sight

GiB, MiB = 1 << 30, 1 << 20
QUIET = Sight(host=Host(ram=16 * GiB, free=8 * GiB))


@pytest.mark.parametrize(
    ("then", "cause", "words"),
    [
        (QUIET, "unknown", "no cause was found"),
        (replace(QUIET, host=replace(QUIET.host, swapped_in=GiB)), "RAM", "1.00 GiB came back"),
        (replace(QUIET, host=replace(QUIET.host, throttled=4)), "RAM", "slowed 4 times"),
        (replace(QUIET, card=Card(total=8 * GiB, free=MiB)), "VRAM", "1 MiB free of 8.00 GiB"),
        (replace(QUIET, card=Card(total=8, free=4, slowed=("heat",), celsius=88)), "heat", "88 °C"),
        (replace(QUIET, waited=15.0), "disk", "15.0 s of 20.0"),
        (replace(QUIET, waited=3.0), "unknown", "no cause"),
    ],
)
def test_the_likeliest_cause(monkeypatch, then, cause, words) -> None:
    monkeypatch.setattr(sight, "shares_memory", lambda: True)
    found, said = sight.cause(QUIET, then, 20.0)
    assert found == cause
    assert words in said


def test_a_full_card_is_no_cause_where_the_driver_says_so(monkeypatch) -> None:
    """On plain Linux an allocation that does not fit is refused, and nothing is slow."""
    monkeypatch.setattr(sight, "shares_memory", lambda: False)
    full = replace(QUIET, card=Card(total=8 * GiB, free=0))
    assert sight.cause(QUIET, full, 20.0)[0] == "unknown"


@pytest.mark.parametrize(
    ("facts", "short"),
    [
        ({"free": 8 * GiB}, False),
        ({"free": sight.RESERVE}, False),
        ({"free": sight.RESERVE - 1}, True),
        ({"free": 2 * sight.RESERVE, "pressure": 30.0}, True),
        ({"free": 8 * GiB, "pressure": 90.0}, False),  # others wait, and there is room
        ({"ram": 2 * GiB, "free": 100 * MiB}, False),  # 2 % of it are kept free
        ({"ram": 2 * GiB, "free": 30 * MiB}, True),
    ],
)
def test_when_memory_is_short(facts, short) -> None:
    now = replace(QUIET.host, **facts)
    words = sight.short_of_ram(QUIET.host, now)
    assert (words is not None) == short
    if words and now.pressure:
        assert sight.short_of_ram(now, now) is None  # it was so when the work began


@pytest.fixture
def nvml(monkeypatch):
    """A fake driver with these facts."""

    def driver(**facts: object) -> None:
        from tests.fake_nvml import pynvml

        monkeypatch.setitem(sys.modules, "pynvml", pynvml)
        monkeypatch.setattr(pynvml, "_FACTS", pynvml._FACTS | json.loads(json.dumps(facts)))

    return driver


def test_a_card_says_what_it_can(nvml) -> None:
    nvml(free=5, total=9, reasons=0x20 | 0x4 | 0x80, celsius=90)
    card = sight.card("GPU-0")
    assert card is not None
    assert (card.free, card.total, card.celsius) == (5, 9, 90)
    assert card.slowed == ("thermal slowdown by the driver", "the power supply says stop")
    nvml(reasons=None, celsius=None)
    card = sight.card("GPU-0")
    assert card is not None
    assert (card.slowed, card.celsius) == ((), None)
    nvml(total=None)
    assert sight.card("GPU-0") is None
    assert sight.card(None) is None
