"""`longtake serve`, as a person or a script uses it: one command, a film in, a film out."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from typing import Any

import av
import httpx
import psutil
import pytest
from standardwebhooks import Webhook
from tusclient import client as tus

from tests.media import films
from tests.service.running import Served, made_by_hand, served, until

PARAMS = {"engine": "resize", "scale": 2, "codec": "ffv1", "set": {"segment_frames": 8}}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.make(tmp_path_factory.mktemp("film") / "holiday.mp4", frames=160, size=(160, 90),
                      sound=True)  # fmt: skip


@pytest.fixture(scope="module")
def by_hand(film, tmp_path_factory) -> str:
    return made_by_hand(film, tmp_path_factory.mktemp("hand") / "large.mkv")


@pytest.fixture(scope="module")
def service(tmp_path_factory, film) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("data"), LONGTAKE_ROOTS=str(film.parent)) as running:
        yield running


def by_path(service: Served, film: Path) -> str:
    made = service.web.post("assets", json={"path": str(film)}).raise_for_status().json()
    assert service.ready(made["id"])["state"] == "ready"
    return str(made["id"])


def created(service: Served, asset: str, **how: Any) -> str:
    body = {"asset": asset, "params": PARAMS, "container": "mkv", **how}
    answer = service.web.post("jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def test_uploaded_it_comes_back_as_made_by_hand(service, film, by_hand) -> None:
    cookies = "; ".join(f"{k}={v}" for k, v in service.web.cookies.items())
    headers = {"Cookie": cookies, "Origin": service.web.headers["origin"]}
    uploading = tus.TusClient(f"{service.address}/api/v1/uploads", headers=headers)
    with film.open("rb") as file:
        about = {"filename": "holiday.mp4"}
        uploading.uploader(file_stream=file, chunk_size=10_000, metadata=about).upload()
    asset = next(a for a in service.web.get("assets").json()["assets"] if a["kind"] == "source")
    about = service.ready(asset["id"])
    assert (about["name"], about["video"]["width"], about["video"]["height"]) == (
        "holiday.mp4", 160, 90,
    )  # fmt: skip
    plan = service.web.post(
        "plans", json={"asset": asset["id"], "params": PARAMS, "container": "mkv"}
    ).raise_for_status().json()  # fmt: skip
    assert (plan["width"], plan["height"]) == (320, 180)
    assert plan["ram"] > 0
    name = created(service, asset["id"])
    done = service.until(name, "succeeded")
    progress = done["progress"]
    assert (progress["frames"], progress["of"], progress["segments"]["done"]) == (160, 160, 20)
    assert sum(progress["segments"].values()) == 20
    film_ = service.web.get(f"assets/{done['result']}/content").raise_for_status()
    assert hashlib.sha256(film_.content).hexdigest() == by_hand
    assert 'filename="holiday_large.mkv"' in film_.headers["content-disposition"]
    part = service.web.get(f"assets/{done['result']}/content", headers={"Range": "bytes=5-14"})
    assert (part.status_code, part.content) == (206, film_.content[5:15])


def test_a_worker_that_is_killed_is_replaced(service, film, by_hand) -> None:
    asset = by_path(service, film)
    name = created(service, asset)
    deaths = 0
    deadline = time.monotonic() + 120
    while service.job(name)["state"] != "succeeded":
        assert time.monotonic() < deadline
        if service.job(name)["progress"]["frames"] > 20 * (deaths + 1) and deaths < 2:
            deaths += service.kill_workers() > 0
        time.sleep(0.02)
    assert deaths
    done = service.job(name)
    content = service.web.get(f"assets/{done['result']}/content").content
    assert hashlib.sha256(content).hexdigest() == by_hand
    outcomes = {a["outcome"] for a in service.web.get(f"jobs/{name}/attempts").json()["attempts"]}
    assert outcomes >= {"done"}


def test_progress_is_streamed_and_the_end_is_waited_for(service, film) -> None:
    name = created(service, by_path(service, film))
    states = []
    with service.web.stream("GET", f"events?job={name}&last=0") as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                data = json.loads(line[5:])
                told = data.get("data", data)
                states.append(told.get("state"))
                if told.get("state") == "succeeded":
                    break
    assert states[0] == "queued"
    assert "done" in states
    waited = service.web.get(f"jobs/{name}?wait=30").json()
    assert waited["state"] == "succeeded"
    again = service.web.get(f"jobs/{name}")
    same = service.web.get(f"jobs/{name}", headers={"If-None-Match": again.headers["etag"]})
    assert same.status_code == 304


def test_one_key_is_one_job(service, film) -> None:
    asset = by_path(service, film)
    body = {"asset": asset, "params": PARAMS, "container": "mkv"}
    answers = [
        service.web.post("jobs", json=body, headers={"Idempotency-Key": "k1"}) for _ in range(3)
    ]
    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["id"] for a in answers}) == 1
    other = service.web.post(
        "jobs", json={**body, "priority": 3}, headers={"Idempotency-Key": "k1"}
    )
    assert other.status_code == 422
    service.until(answers[0].json()["id"], "succeeded")


def test_stopped_paused_and_taken_up(service, film) -> None:
    asset = by_path(service, film)
    name = created(service, asset)
    until(lambda: service.job(name)["progress"]["frames"] >= 16)
    service.web.post(f"jobs/{name}/pause").raise_for_status()
    if service.until(name, "paused", "succeeded")["state"] == "paused":
        service.web.post(f"jobs/{name}/resume").raise_for_status()
        service.web.post(f"jobs/{name}/cancel", json={"mode": "partial"}).raise_for_status()
        service.until(name, "partial", "cancelled")
        service.web.post(f"jobs/{name}/retry").raise_for_status()
    service.until(name, "succeeded")
    assert service.web.delete(f"jobs/{name}").status_code == 204
    assert service.web.get(f"jobs/{name}").status_code == 404


@pytest.mark.parametrize("times", [4, pytest.param(100, marks=pytest.mark.long)])
def test_a_cancelled_job_leaves_the_film_of_what_was_done(service, film, tmp_path, times) -> None:
    """At any time: exactly the committed segments from the beginning, with their sound."""
    asset, draw = by_path(service, film), random.Random(times)
    for _ in range(times):
        name = created(service, asset)
        least = draw.randrange(120)
        until(lambda: service.job(name)["progress"]["frames"] >= least)  # noqa: B023
        answer = service.web.post(f"jobs/{name}/cancel", json={"mode": "partial"})
        if answer.status_code == 409 and service.job(name)["state"] == "succeeded":
            continue  # too late: it was quicker
        answer.raise_for_status()
        ended = service.until(name, "partial", "cancelled")
        steps = service.web.get(f"jobs/{name}/segments").raise_for_status().json()["segments"]
        segments = [step for step in steps if step["kind"] == "segment"]
        whole = takewhile(lambda step: step["state"] == "done", segments)
        frames = sum(step["frames"] for step in whole)
        assert ended["state"] == ("partial" if frames else "cancelled")
        if frames:
            path = tmp_path / "part.mkv"
            answer = service.web.get(f"assets/{ended['result']}/content").raise_for_status()
            path.write_bytes(answer.content)
            with av.open(str(path)) as part:
                assert sum(1 for _ in part.decode(video=0)) == frames
            with av.open(str(path)) as part:
                sound = sum(frame.samples for frame in part.decode(audio=0))
                seconds = sound / part.streams.audio[0].rate
            assert seconds == pytest.approx(frames / 25, abs=0.1)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"params": {"engine": "magic"}}, "magic"),
        ({"params": {"engine": "flashvsr", "set": {"folder": "/etc"}}}, "folder"),
        ({"params": {**PARAMS, "colour": "red"}}, "colour"),
        ({"params": {**PARAMS, "scale": "many"}}, "scale"),
        ({"params": {**PARAMS, "set": {"kernel": "round"}}}, "kernel"),
        ({"params": {**PARAMS, "codec": "mpeg1"}}, "mpeg1"),
        ({"params": PARAMS, "container": "exe"}, "'mp4' or 'mkv'"),
        ({"params": PARAMS, "surplus": 1}, "surplus"),
        ({"params": {**PARAMS, "ram": 1}}, "RAM"),
    ],
)
def test_what_cannot_be_done_says_why(service, film, body, words) -> None:
    asset = by_path(service, film)
    answer = service.web.post("jobs", json={"asset": asset, "container": "mkv", **body})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert words in answer.text


def test_paths_outside_the_roots_are_refused(service) -> None:
    for path in ("/etc/passwd", "../../etc/passwd", "holiday.mp4\0", ""):
        assert service.web.post("assets", json={"path": path}).status_code == 422


def test_what_is_no_film_is_rejected(service, film) -> None:
    bad = film.parent / "bad.mp4"
    bad.write_bytes(b"ffconcat version 1.0\nfile holiday.mp4\n")
    made = service.web.post("assets", json={"path": str(bad)}).raise_for_status().json()
    found = service.ready(made["id"])
    assert found["state"] == "rejected"
    answer = service.web.post("jobs", json={"asset": made["id"], "params": PARAMS})
    assert answer.status_code == 409


def test_strangers_are_not_answered(service) -> None:
    with httpx.Client(base_url=f"{service.address}/api/v1/") as stranger:
        assert stranger.get("jobs").status_code == 401
        assert stranger.get("jobs", headers={"Host": "evil.example"}).status_code in (400, 403, 421)


def test_it_does_not_listen_to_the_world_unasked(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "longtake", "serve", "--host", "0.0.0.0", "--port", "1"],
        env={**os.environ, "LONGTAKE_DATA": str(tmp_path)}, capture_output=True, text=True,
        timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert "tokens" in done.stderr


def test_killed_it_goes_on_where_it_was(tmp_path, film, by_hand) -> None:
    """kill -9 of the service: its workers end, and the next one finishes the job."""
    with served(tmp_path / "data", LONGTAKE_ROOTS=str(film.parent)) as first:
        name = created(first, by_path(first, film))
        until(lambda: first.job(name)["progress"]["frames"] >= 24)
        workers = [worker for worker, _ in first.workers()]
        first.process.kill()
        first.process.wait()
        psutil.wait_procs(workers, timeout=25)
    with served(tmp_path / "data", LONGTAKE_ROOTS=str(film.parent)) as second:
        done = second.until(name, "succeeded")
        content = second.web.get(f"assets/{done['result']}/content").content
        assert hashlib.sha256(content).hexdigest() == by_hand


def test_a_webhook_tells_of_the_end(tmp_path, film) -> None:
    """Signed, to a host that is allowed; another is refused when it is set up."""
    heard: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.put((dict(self.headers), body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    allowed = {"LONGTAKE_WEBHOOK_ALLOW": "127.0.0.1", "LONGTAKE_ROOTS": str(film.parent)}
    with served(tmp_path / "data", **allowed) as service:
        assert service.web.post("webhooks", json={"url": "http://10.0.0.1/"}).status_code == 422
        url = f"http://127.0.0.1:{receiver.server_port}/hook"
        made = service.web.post("webhooks", json={"url": url}).raise_for_status().json()
        name = created(service, by_path(service, film))
        headers, body = heard.get(timeout=60)
        told = Webhook(made["secret"]).verify(body, {k.lower(): v for k, v in headers.items()})
        assert told["type"] == "job.succeeded" or told["data"]["state"] == "succeeded"
        assert name in body.decode()
    receiver.shutdown()
    receiver.server_close()


def test_a_token_does_what_its_scopes_say(service) -> None:
    made = service.web.post("tokens", json={"name": "script", "scopes": ["jobs:read"]})
    value = made.raise_for_status().json()["token"]
    with httpx.Client(base_url=f"{service.address}/api/v1/") as script:
        script.headers["authorization"] = f"Bearer {value}"
        assert script.get("jobs").status_code == 200
        assert script.post("jobs", json={"asset": "x"}).status_code == 403
        (one,) = [t for t in service.web.get("tokens").json()["tokens"] if t["name"] == "script"]
        service.web.delete(f"tokens/{one['id']}").raise_for_status()
        assert script.get("jobs").status_code == 401


def test_asked_whether_it_is_ready_it_says_nothing_of_how_it_knows(service) -> None:
    for _ in range(3):
        assert httpx.get(f"{service.address}/readyz").json() == {"ready": True}
    said = (service.data / "log").read_text()
    assert "/readyz" in said
    assert "alembic" not in said
