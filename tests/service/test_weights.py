"""Weights over HTTP: what there is, pulls that survive, and who may ask for them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from longtake.service.audit import entries
from longtake.service.database import Database
from longtake.service.routes import weights as routes
from longtake.service.weights import Pulls
from longtake.weights import catalog
from tests.service.running import until
from tests.service.serving import made, served, somebody
from tests.weights import toy
from tests.weights.host import Host, serving

ROOT = Path(__file__).resolve().parents[2]
TOY = "toy-v1.1"
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
CHILD = """
import sys
sys.path.insert(0, {root!r})
from longtake.service import _pull
from longtake.weights import catalog, download
from tests.weights import toy
download.PAUSES = (0.01,)
for model in (toy.model("v1.0"), toy.with_digests("v1.1", {digests!r})):
    catalog.MODELS[model.name] = model
sys.exit(_pull.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return toy.contents("v1.1")


@pytest.fixture
def host(files: dict[str, bytes]) -> Iterator[Host]:
    with serving(Host(files=dict(files))) as host:
        yield host


@pytest.fixture
def folder(
    host: Host, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """Where weights lie; the toys are in the catalogue, and the host is Hugging Face."""
    for each in (toy.model("v1.0"), toy.model("v1.1", files)):
        monkeypatch.setitem(catalog.MODELS, each.name, each)
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", host.url)
    return tmp_path / "home"


@pytest.fixture
def program(files: dict[str, bytes]) -> list[str]:
    """The child, with the toys in its catalogue too."""
    digests = [hashlib.sha256(files[name]).hexdigest() for name in toy.NAMES.values()]
    return [sys.executable, "-c", CHILD.format(root=str(ROOT), digests=digests)]


class Web:
    """Somebody who asks."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        return self.client.request(method, path, **how)

    def pull(self, name: str = TOY, **body: Any) -> dict[str, Any]:
        answer = self.ask("POST", f"weights/{name}/pull", json=body or None)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def stop(self, name: str = TOY) -> dict[str, Any]:
        answer = self.ask("DELETE", f"weights/{name}/pull")
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def shown(self, name: str = TOY) -> dict[str, Any]:
        listed = self.ask("GET", "weights").raise_for_status().json()["weights"]
        return next(one for one in listed if one["name"] == name)

    def until(
        self, condition: Callable[[dict[str, Any]], bool], name: str = TOY, seconds: float = 30
    ) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while not condition(found := self.shown(name)):
            assert time.monotonic() < end, found
            time.sleep(0.02)
        return found

    def ended(self, name: str = TOY) -> dict[str, Any]:
        return self.until(lambda found: found["pull"]["state"] != "running", name)

    def events(self) -> list[dict[str, Any]]:
        """All events from the first one on, up to the end of a pull."""
        found: list[dict[str, Any]] = []
        with self.client.stream("GET", "events", params={"last": 0}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line[6:]))
                    if found[-1]["data"].get("state") not in (None, "running"):
                        break
        return found


@contextmanager
def service(database: Database, program: list[str], header: str) -> Iterator[Web]:
    """A service with these routes; new pulls at each call, as after a restart."""
    app = made(database, routes.router(Pulls(database, program)))
    headers = {"Authorization": header}
    with (
        served(app) as address,
        httpx.Client(base_url=f"{address}/api/v1", headers=headers, timeout=30) as client,
    ):
        yield Web(client)


@pytest.fixture
def admin(database: Database) -> str:
    return somebody(database, "root", "admin")[1]


@pytest.fixture
def web(database: Database, folder: Path, program: list[str], admin: str) -> Iterator[Web]:
    with service(database, program, admin) as web:
        yield web


def whole(folder: Path, files: dict[str, bytes]) -> bool:
    return all((folder / TOY / name).read_bytes() == body for name, body in files.items())


def came(folder: Path) -> int:
    """Bytes of the first file that lie on the disk."""
    path = folder / TOY / "net.safetensors.partial"
    return path.stat().st_size if path.exists() else 0


def children() -> list[psutil.Process]:
    """Those of this process that pull."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "_pull" in " ".join(child.cmdline()):
                found.append(child)
    return found


# --- a pull --------------------------------------------------------------------------------------


def test_pulled_through_breaks_and_followed(
    web: Web, host: Host, files: dict[str, bytes], folder: Path
) -> None:
    host.cuts, host.trickle = [30_000, 20_000, 1, 9_000], 0.05
    before = web.shown()
    assert (before["state"], before["here"], before["pull"]) == ("absent", 0, None)
    assert before["of"] == sum(map(len, files.values()))
    begun = web.pull()
    assert begun["state"] == "running"
    told = web.events()
    after = web.ended()
    assert (after["pull"]["state"], after["state"]) == ("done", "whole")
    assert after["here"] == after["of"] == before["of"]
    assert after["pull"]["began"] == begun["began"]
    assert whole(folder, files)
    assert host.sent == before["of"]  # not one byte twice
    states = [e["data"]["state"] for e in told if e["type"] == "weights.state"]
    assert states == ["running", "done"]
    progress = [e for e in told if e["type"] == "weights.progress"]
    assert {e["data"]["weights"] for e in told} == {TOY}
    assert len(progress) >= 2
    gaps = [b["at"] - a["at"] for a, b in pairwise(progress)]
    assert min(gaps) > 900_000  # microseconds
    first = [e["data"] for e in progress if e["data"]["file"] == "net.safetensors"]
    received = [data["received"] for data in first]
    assert received == sorted(received)
    assert max(data["bytes_per_second"] for data in first) > 10_000


@on_sqlite
def test_stopped_it_keeps_what_came_and_goes_on(
    database: Database, web: Web, host: Host, files: dict[str, bytes], folder: Path
) -> None:
    host.trickle = 0.02
    web.pull()
    web.until(lambda _: came(folder) > 40_000)
    assert web.stop()["state"] == "stopped"
    here = came(folder)
    assert web.shown()["state"] == "partial"
    assert web.shown()["here"] == here
    assert web.stop()["state"] == "stopped"  # again: nothing happens
    noted = [(entry.action, entry.object) for entry in reversed(entries(database))]
    assert noted[-2:] == [("weights.pull", TOY), ("weights.stop", TOY)]
    host.trickle = 0
    assert web.pull()["state"] == "running"
    assert web.ended()["pull"]["state"] == "done"
    assert host.asked[1][1] == f"bytes={here}-"
    assert whole(folder, files)


@on_sqlite
def test_a_host_that_says_nothing_holds_up_nobody(web: Web, host: Host, folder: Path) -> None:
    """Neither other requests nor the stop, nor the next pull."""
    host.trickle = 20.0  # s, after the first 4096 bytes
    web.pull()
    web.until(lambda _: len(host.asked) == 1)
    start = time.monotonic()
    for _ in range(10):
        assert web.shown()["pull"]["state"] == "running"
    assert time.monotonic() - start < 2
    assert web.stop()["state"] == "stopped"
    assert time.monotonic() - start < 4
    host.trickle = 0
    web.pull()
    assert web.ended()["pull"]["state"] == "done"


def test_the_end_of_the_service_stops_pulls_and_the_next_start_goes_on(
    database: Database,
    folder: Path,
    program: list[str],
    admin: str,
    host: Host,
    files: dict[str, bytes],
) -> None:
    host.trickle = 0.02
    with service(database, program, admin) as web:
        web.pull()
        web.until(lambda _: came(folder) > 40_000)
        start = time.monotonic()
    assert time.monotonic() - start < 5  # 2 s at rest
    assert not children()
    here, host.trickle = came(folder), 0
    with service(database, program, admin) as web:
        assert web.shown()["pull"] is None
        assert web.shown()["here"] == here
        web.pull()
        assert web.ended()["pull"]["state"] == "done"
    assert host.asked[1][1] == f"bytes={here}-"
    assert whole(folder, files)


@on_sqlite
def test_wrong_bytes_fail_and_the_next_pull_is_right(
    web: Web, host: Host, files: dict[str, bytes], folder: Path
) -> None:
    host.files["Decoder.ckpt"] = files["Decoder.ckpt"][:-1] + b"x"
    web.pull()
    found = web.ended()
    assert found["pull"]["state"] == "failed"
    assert "Decoder.ckpt" in found["pull"]["error"]
    assert "twice" in found["pull"]["error"]
    assert [f["state"] for f in found["files"]] == ["whole", "absent", "absent"]
    assert web.events()[-1]["data"]["error"] == found["pull"]["error"]
    host.files = dict(files)
    again = web.pull()
    assert (again["state"], again["error"]) == ("running", None)
    assert web.ended()["pull"]["state"] == "done"
    assert [p.rpartition("/")[2] for p, _ in host.asked].count("net.safetensors") == 1


@on_sqlite
def test_one_pull_at_a_time(web: Web, host: Host, folder: Path) -> None:
    host.trickle = 0.02
    first = web.pull()
    web.until(lambda _: len(host.asked) == 1)
    second = web.pull(origin="hf")
    assert (second["began"], second["state"]) == (first["began"], "running")
    assert web.ended()["pull"]["state"] == "done"
    assert len(host.asked) == 3


@on_sqlite
def test_a_child_that_dies_is_told(web: Web, host: Host, folder: Path) -> None:
    host.trickle = 0.05
    web.pull()
    web.until(lambda _: came(folder) > 0)
    (child,) = children()
    child.kill()
    assert "-9" in web.ended()["pull"]["error"]
    assert web.shown()["state"] == "partial"


# --- what is told, and to whom -------------------------------------------------------------------


@on_sqlite
def test_it_tells_what_the_command_line_tells(web: Web, folder: Path) -> None:
    listed = web.ask("GET", "weights").raise_for_status().json()["weights"]
    done = subprocess.run(
        [sys.executable, "-m", "longtake", "weights", "list", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = {one["name"]: one for one in map(json.loads, done.stdout.splitlines())}
    shown = {one["name"]: one for one in listed}
    assert shown.keys() == said.keys() | {"toy-v1.0", TOY}
    for name, one in said.items():
        plain = [{k: v for k, v in file.items() if k != "is"} for file in one["files"]]
        assert shown[name]["files"] == plain
        for key in ("about", "state", "licences"):
            assert shown[name][key] == one[key]
        assert shown[name]["folder"] == one["where"]
    assert shown["flashvsr-v1.1"]["engines"] == ["flashvsr"]
    assert (shown["lite"]["engines"], shown["lite"]["state"]) == (["lite"], "whole")
    assert shown[TOY]["engines"] == []


@on_sqlite
def test_a_damaged_manifest_hides_only_its_own(web: Web, folder: Path) -> None:
    (folder / TOY).mkdir(parents=True)
    (folder / TOY / "manifest.json").write_text("{")
    found = web.shown()
    assert (found["state"], found["files"], found["of"]) == ("damaged", [], None)
    assert "manifest.json is damaged" in found["error"]
    assert web.shown("toy-v1.0")["error"] is None


@pytest.mark.parametrize(
    ("method", "name", "body", "status", "words"),
    [
        ("POST", "toy-v9", None, 404, "toy-v1.1"),
        ("DELETE", "toy-v9", None, 404, "toy-v1.1"),
        ("DELETE", TOY, None, 404, "pull"),
        ("POST", "lite", None, 422, "nothing to pull"),
        ("POST", TOY, {"origin": "modelscope"}, 422, "ModelScope"),
        ("POST", TOY, {"origin": "http://169.254.169.254/"}, 422, "origin"),
        ("POST", TOY, {"origin": "/etc"}, 422, "origin"),
        ("POST", TOY, {"to": "/etc"}, 422, "to"),
        ("POST", "..%2F..", None, 404, ""),
    ],
)
@on_sqlite
def test_what_cannot_be_pulled_says_why(
    method: str, name: str, body: Any, status: int, words: str, web: Web, host: Host
) -> None:
    answer = web.ask(method, f"weights/{name}/pull", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.text
    assert not host.asked


@on_sqlite
def test_only_an_administrator_pulls(
    database: Database, web: Web, host: Host, folder: Path
) -> None:
    _, header = somebody(database)
    user = {"Authorization": header}
    for method in ("POST", "DELETE"):
        assert web.ask(method, f"weights/{TOY}/pull", headers=user).status_code == 403
        answer = web.ask(method, f"weights/{TOY}/pull", headers={"Authorization": ""})
        assert answer.status_code == 401
    assert web.ask("GET", "weights", headers=user).status_code == 200
    assert not host.asked


# --- processes -----------------------------------------------------------------------------------

SERVING = """
import sys, time
from longtake.service import assembly  # all that answers requests
from longtake.service.database import Database
from longtake.service.upgrade import upgrade
from longtake.service.users import add_user
from longtake.service.weights import Pulls
from longtake.weights import catalog
from tests.weights import toy
catalog.MODELS["toy-v1.0"] = toy.model("v1.0")
database = Database({url!r})
upgrade(database)
pulls = Pulls(database, {program!r})
pulls.start(add_user(database, "root", "admin"), "toy-v1.0")
print("begun", flush=True)
while (pull := pulls.shown()[-2].pull).state == "running":
    time.sleep(0.05)
print(pull.state, pull.error, "torch" in sys.modules)
"""


@pytest.fixture
def process(folder: Path, program: list[str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that pulls the model whose pickles have no published hash."""
    code = SERVING.format(url=f"sqlite:///{tmp_path}/own.db", program=program)
    environment = os.environ | {"PYTHONPATH": "src"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    )
    with process:
        yield process


def test_the_process_that_answers_never_loads_torch(
    process: subprocess.Popen[str], host: Host, folder: Path
) -> None:
    host.files = toy.contents("v1.0")
    out, _ = process.communicate(timeout=60)
    assert out.splitlines() == ["begun", "done None False"]
    assert (folder / "toy-v1.0/prompt.pth").read_bytes() == host.files["prompt.pth"]


def test_a_pull_ends_when_the_service_is_killed(process: subprocess.Popen[str], host: Host) -> None:
    host.trickle = 20.0
    until(lambda: host.asked)
    (child,) = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([child], timeout=5)[1] == []
