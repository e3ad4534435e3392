"""One file over a bad line: whatever happens, all of it arrives, and nothing is mixed."""

from __future__ import annotations

import hashlib
import shutil
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longtake.core.errors import BadInput, DiskFull, DownloadFailed, Usage
from longtake.weights import download
from longtake.weights.download import Received, Retried, fetch

BODY = bytes(range(256)) * 400
SHA = hashlib.sha256(BODY).hexdigest()


def run(host, partial, sha256=None):
    """The events and what `fetch` returns."""
    events, steps = [], fetch(f"{host.url}/a.bin", partial, sha256)
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            return events, end.value


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cuts=st.lists(st.integers(1, len(BODY) // 2), max_size=8),
    here=st.integers(0, len(BODY)),
    known=st.booleans(),
    ranges=st.booleans(),
)
def test_whatever_breaks_the_file_arrives(host, tmp_path, cuts, here, known, ranges) -> None:
    """Cuts anywhere, a beginning of any length, hosts that ignore Range (of those, 4 cuts)."""
    partial = tmp_path / "a.bin.partial"
    download.discard(partial)
    partial.write_bytes(BODY[:here])
    host.files, host.ranges, host.cuts = {"a.bin": BODY}, ranges, cuts if ranges else cuts[:4]
    events, _ = run(host, partial, SHA if known else None)
    assert partial.read_bytes() == BODY
    assert all(isinstance(e, Received | Retried) for e in events)


def test_a_long_beginning_that_is_of_no_use_does_not_hide_what_came(host, tmp_path) -> None:
    (tmp_path / "p").write_bytes(BODY[:-1])
    host.files, host.cuts = {"a.bin": BODY}, [1] * 8
    run(host, tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == BODY


def test_five_cuts_cost_nothing_twice(host, tmp_path) -> None:
    host.files, host.cuts = {"a.bin": BODY}, [9_000, 1, 30_000, 2, 100]
    events, _ = run(host, tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == BODY
    assert sum(isinstance(e, Retried) for e in events) == 5
    assert host.sent == len(BODY)
    assert [r for _, r in host.asked] == [
        "", "bytes=9000-", "bytes=9001-", "bytes=39001-", "bytes=39003-", "bytes=39103-",
    ]  # fmt: skip


@pytest.mark.parametrize("etag", [True, False])
def test_a_file_that_changed_at_the_host_is_not_mixed(host, tmp_path, etag) -> None:
    """Without a tag, a beginning cannot be known again, so it is not used."""
    host.files, host.etag, host.cuts = {"a.bin": BODY}, etag, [50_000] + [0] * 5
    with pytest.raises(DownloadFailed):
        run(host, tmp_path / "p")
    other = BODY[::-1]
    host.files = {"a.bin": other}
    run(host, tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == other


def test_a_dead_host_ends_it_and_keeps_what_came(host, tmp_path) -> None:
    host.files, host.cuts = {"a.bin": BODY}, [50_000] + [0] * 5
    with pytest.raises(DownloadFailed, match=r"0\.1 MB are kept.*same command"):
        run(host, tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == BODY[:50_000]
    run(host, tmp_path / "p")
    assert host.asked[-1][1] == "bytes=50000-"


def test_a_host_that_is_busy_is_asked_again(host, tmp_path) -> None:
    host.files, host.answers = {"a.bin": BODY}, [503, 429, 500]
    run(host, tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == BODY


def test_no_such_file_is_said_at_once(host, tmp_path) -> None:
    with pytest.raises(BadInput, match=r"a\.bin cannot be fetched: the host says 404"):
        run(host, tmp_path / "p")
    assert len(host.asked) == 1
    with pytest.raises(Usage):
        next(fetch("file:///etc/passwd", tmp_path / "p"))


def test_a_hub_names_the_hash_on_the_way(host, tmp_path) -> None:
    host.files, host.redirect, host.cuts = {"a.bin": BODY}, True, [50_000]
    _, named = run(host, tmp_path / "p")
    assert named == SHA
    assert host.sent == len(BODY)


def test_a_silent_line_is_given_up(host, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.2)
    host.files, host.trickle = {"a.bin": BODY[:9000]}, 0.4
    events, _ = run(host, tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == BODY[:9000]
    assert any("nothing came" in e.reason for e in events if isinstance(e, Retried))


def test_a_full_disk_is_seen_beforehand(host, tmp_path, monkeypatch) -> None:
    host.files = {"a.bin": BODY}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DiskFull, match=r"needs 0\.1 MB more"):
        run(host, tmp_path / "p")
    assert not (tmp_path / "p").exists()
