"""Workers: which device each has, which may rest, and what happens when one falls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import update

from longtake.core.errors import Usage
from longtake.core.machine import Gpu
from longtake.service import claiming, fleet, queue, supervise
from longtake.service.database import Database
from longtake.service.devices import chosen, posts
from longtake.service.routes import fleet as fleet_routes
from longtake.service.supervise import Workers
from longtake.service.tables import step, worker
from tests.media import films
from tests.service.jobs import a_worker, plain_job, someone, standing, submitted, upscaling
from tests.service.running import Served, made_by_hand, served, until
from tests.service.serving import client_of, made, somebody
from tests.service.test_serve import by_path, created


def gpu(index: int, uuid: str) -> Gpu:
    return Gpu(index=index, uuid=uuid, name="Fake 9000", vram=1 << 34, free=1 << 34,
               capability=(9, 0))  # fmt: skip


A, B, C = (gpu(i, f"GPU-{name * 8}-0000") for i, name in enumerate("abc"))
THREE = (A, B, C)
SEEN = (gpu(0, C.uuid), gpu(1, A.uuid))
"""What a process sees of three with CUDA_VISIBLE_DEVICES=2,0."""


# --- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "gpus", "expected"),
    [
        ("none", THREE, []),
        ("auto", (), [("cpu", "cpu", None)]),
        ("auto", THREE, [(f"cuda:{g.index}", "cuda:0", g.uuid) for g in THREE]),
        ("auto", SEEN, [("cuda:2", "cuda:0", C.uuid), ("cuda:0", "cuda:0", A.uuid)]),
        ("cuda:1", SEEN, [("cuda:0", "cuda:0", A.uuid)]),
        (f"{B.uuid},cpu", THREE, [("cuda:1", "cuda:0", B.uuid), ("cpu", "cpu", None)]),
        ("cpu,cpu", (), [("cpu", "cpu", None), ("cpu", "cpu", None)]),
        ("GPU-cccccc", THREE, [("cuda:2", "cuda:0", C.uuid)]),
    ],
)
def test_each_gpu_has_a_worker_that_sees_no_other(asked, gpus, expected) -> None:
    found = posts(asked, gpus, THREE, 8484)
    assert [(post.name.split("/")[1], post.device, post.uuid) for post in found] == expected
    assert len({post.name for post in found}) == len(found)
    for post in found:
        assert post.environment == ({"CUDA_VISIBLE_DEVICES": post.uuid} if post.uuid else {})


@pytest.mark.parametrize("asked", ["cuda:3", "cuda:", "GPU-", "GPU-dddddddd", "gpu", "", "cpu:1"])
def test_a_device_that_is_not_there_is_refused(asked) -> None:
    with pytest.raises(Usage, match="no such device here, but cpu, cuda:0"):
        chosen(asked, THREE)


def test_children_are_given_their_device(monkeypatch) -> None:
    """By command line and environment; each is a new program."""
    begun: list[tuple[list[str], dict[str, str]]] = []

    class Child(subprocess.Popen[bytes]):
        def __init__(self, words: list[str], **how: Any) -> None:
            begun.append((words, how["env"]))
            super().__init__([sys.executable, "-c", "input()"], **how)

    monkeypatch.setattr(supervise.subprocess, "Popen", Child)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    with Workers(posts("auto", SEEN, THREE, 1), {"LONGTAKE_DB": "x"}, 7.0, log="json"):
        until(lambda: len(begun) == 2)
    for (words, env), uuid, index in zip(begun, (C.uuid, A.uuid), (2, 0), strict=True):
        given = dict(zip(words[5::2], words[6::2], strict=True))
        assert words[:5] == [sys.executable, "-m", "longtake", "worker", "--child"]
        assert given["--device"] == "cuda:0"
        assert f"/cuda:{index}/" in given["--name"]
        assert (given["--lease"], given["--log"]) == ("7.0", "json")
        assert (env["CUDA_VISIBLE_DEVICES"], env["LONGTAKE_DB"]) == (uuid, "x")


def test_a_worker_says_which_gpu_it_has(tmp_path) -> None:
    """By UUID, name and number; another number than the one that the process itself uses."""
    url = f"sqlite:///{tmp_path / 'service.db'}"
    program = textwrap.dedent(f"""
        import os
        from longtake.core.machine import Gpu
        from longtake.planner import survey
        found = [Gpu(index=i, uuid=u, name="Fake 9000", vram=1 << 34, free=1 << 34,
                     capability=(9, 0)) for i, u in enumerate({[g.uuid for g in THREE]!r})]
        survey.installed = lambda: found
        from longtake.cli.main import main
        from longtake.service import work
        run = work.Worker.run
        def told(self, **how):
            import sys
            assert "torch" not in sys.modules
            seen = len(self.machine.gpus)
            print(os.environ["CUDA_VISIBLE_DEVICES"], self.device, self.queues, seen)
            run(self, **how)
        work.Worker.run = told
        main(["worker", "--device", "cuda:1", "--until-empty", "--name", "gert"])
    """)
    env = {**os.environ, "LONGTAKE_DB": url, "LONGTAKE_DATA": str(tmp_path),
           "LONGTAKE_CACHE": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0,2"}  # fmt: skip
    subprocess.run([sys.executable, "-m", "longtake", "db", "upgrade"], env=env, check=True)
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == f"{C.uuid} cuda:0 ('gpu', 'cpu') 1", done.stderr
    database = Database(url)
    with database.read() as connection:
        row = connection.execute(worker.select()).one()
    database.close()
    assert json.loads(row.gpu) == {"uuid": C.uuid, "name": "Fake 9000", "index": 2}
    assert (row.id, row.device, row.state) == ("gert", "cuda:0", "gone")


# --- who falls, who rests ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return films.make(tmp_path_factory.mktemp("film") / "holiday.mp4", frames=160, size=(160, 90))


@pytest.fixture(scope="module")
def by_hand(film, tmp_path_factory) -> str:
    return made_by_hand(film, tmp_path_factory.mktemp("hand") / "large.mkv")


def there(service: Served, state: str = "") -> list[dict[str, Any]]:
    found = service.web.get("workers").raise_for_status().json()["workers"]
    return [one for one in found if state in ("", one["state"])]


def alive(service: Served) -> dict[int, list[str]]:
    """Worker processes and their command lines, by number."""
    return {child.pid: words for child, words in service.workers()}


def sha_of(service: Served, name: str) -> str:
    done = service.until(name, "succeeded", seconds=120)
    return str(service.web.get(f"assets/{done['result']}").json()["sha256"])


def test_a_worker_that_crashes_is_replaced_alone(tmp_path, film, by_hand) -> None:
    """SIGSEGV, as from a driver; and the parent never touched CUDA, nor did it fork."""
    roots = {"LONGTAKE_ROOTS": str(film.parent)}
    with served(tmp_path / "data", "--workers", "cpu,cpu", **roots) as service:
        until(lambda: len(there(service)) == 2)
        name = created(service, by_path(service, film))
        until(lambda: service.job(name)["progress"]["frames"] > 16)
        before = set(alive(service))
        fallen = next(iter(before))
        os.kill(fallen, signal.SIGSEGV)
        assert sha_of(service, name) == by_hand
        until(lambda: len(alive(service)) == 2)
        assert set(alive(service)) & before == before - {fallen}
        assert all(w[1:4] == ["-m", "longtake", "worker"] for w in alive(service).values())
        parent = psutil.Process(service.process.pid)
        mapped = {Path(m.path).name for m in parent.memory_maps()}
        assert not [lib for lib in mapped if lib.startswith(("libtorch", "libcuda", "libc10"))]
    lines = (tmp_path / "data" / "log").read_text().splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{")]
    assert "Fatal" not in "".join(lines)
    (told,) = [line["text"] for line in said if "SIGSEGV" in line["text"]]
    assert told.startswith("worker ")


def test_a_drained_worker_gives_its_step_back_and_rests(tmp_path, film, by_hand) -> None:
    """Until it is told otherwise, also over a restart of the service."""
    roots, data = {"LONGTAKE_ROOTS": str(film.parent)}, tmp_path / "data"
    with served(data, "--workers", "cpu", **roots) as service:
        name = created(service, by_path(service, film))
        until(lambda: service.job(name)["progress"]["frames"] > 16)
        (one,) = there(service)
        drain = f"workers/{one['id']}/drain"
        assert service.web.post("workers/nobody/drain").status_code == 404
        assert service.web.post(drain).status_code == 204
        began = time.monotonic()
        until(lambda: not any(one["doing"] for one in there(service)), 20)
        assert time.monotonic() - began < 10
        until(lambda: not alive(service))
        (row,) = there(service)
        assert (row["state"], row["doing"]) == ("draining", None)
        assert row["drained"]
        tried = service.web.get(f"jobs/{name}/attempts").json()["attempts"]
        assert {a["outcome"] for a in tried} <= {"done", "released"}
        time.sleep(2.5)
        assert not alive(service)
        port = service.address.rpartition(":")[2]
    with served(data, "--workers", "cpu", "--port", port, **roots) as service:
        time.sleep(1.5)
        assert not alive(service)
        assert service.web.delete(drain).status_code == 204
        assert sha_of(service, name) == by_hand
        (row,) = there(service)
        assert row["drained"] is None


def test_a_stopped_worker_gives_its_segment_back_at_once(tmp_path) -> None:
    """Gate 27: SIGTERM in the middle of a segment; nothing counts as a crash."""
    url = f"sqlite:///{tmp_path / 'service.db'}"
    env = {**os.environ, "LONGTAKE_DB": url, "LONGTAKE_DATA": str(tmp_path),
           "LONGTAKE_CACHE": str(tmp_path)}  # fmt: skip
    subprocess.run([sys.executable, "-m", "longtake", "db", "upgrade"], env=env, check=True)
    database = Database(url)
    film = films.make(tmp_path / "in.mp4", frames=120, size=(160, 90))
    name = submitted(database, someone(database), upscaling(film, 120, engine="lite"))
    words = [sys.executable, "-m", "longtake", "worker", "--device", "cpu"]
    man = subprocess.Popen(words, env=env)

    def running() -> bool:
        found = standing(database, name).steps.get(0)
        return found is not None and 0 < found.frames_done < 120

    until(running, 120)
    began = time.monotonic()
    man.terminate()
    until(lambda: standing(database, name).steps[0].state == "ready", 30)
    took = time.monotonic() - began
    assert man.wait(60) == 0
    assert took < 10, took
    found = standing(database, name).steps[0]
    assert (found.state, found.attempts, found.fence) == ("ready", 0, 1)
    with database.read() as connection:
        outcomes = connection.exec_driver_sql("SELECT outcome FROM attempt").scalars().all()
    assert sorted(outcomes) == ["done", "released"]
    database.close()


# --- queues --------------------------------------------------------------------------------------


def test_a_paused_queue_gives_nothing_out(database) -> None:
    _, admin = somebody(database, "root", "admin")
    _, user = somebody(database, "ann")
    name = plain_job(database, someone(database, "bob"), 3)
    with client_of(made(database, fleet_routes.router(database))) as client:
        client.headers["Authorization"] = admin

        def cpu() -> dict[str, Any]:
            gpus, cpus = client.get("/api/v1/queues").json()["queues"]
            assert gpus == {"name": "gpu", "paused": None, "ready": 0, "leased": 0, "oldest": None}
            return dict(cpus)

        held = claiming.claim(database, "w", ("cpu",), 60, numerics="here")
        found = cpu()
        assert (found["ready"], found["leased"], found["paused"]) == (2, 1, None)
        assert 0 <= found["oldest"] < 60
        denied = client.post("/api/v1/queues/cpu/pause", headers={"Authorization": user})
        assert denied.status_code == 403
        assert client.post("/api/v1/queues/disk/pause").status_code == 422
        for _ in range(2):
            assert client.post("/api/v1/queues/cpu/pause").status_code == 200
        assert cpu()["paused"]
        assert claiming.claim(database, "w", ("cpu", "gpu"), 60, numerics="here") is None
        part = queue.Part(key="part", bytes=1, sha256="0")
        queue.commit_segment(database, held, part, "here")  # what is in hand is finished
        assert standing(database, name).steps[0].state == "done"
        for _ in range(2):
            assert client.post("/api/v1/queues/cpu/resume").status_code == 200
        assert claiming.claim(database, "w", ("cpu",), 60, numerics="here").number == 1


def test_the_age_of_a_queue_is_that_of_its_oldest_step(database) -> None:
    name = plain_job(database, someone(database), 2)
    with database.write() as connection:
        now = database.now(connection)
        for number, ago in ((0, 90), (1, -90)):
            connection.execute(
                update(step)
                .where(step.c.job == name, step.c.number == number)
                .values(not_before=now - ago * 1_000_000)
            )
    (cpu,) = [one for one in fleet.queues(database) if one.name == "cpu"]
    assert cpu.ready == 1
    assert cpu.oldest == pytest.approx(90, abs=5)


def test_only_admins_drain(database) -> None:
    _, user = somebody(database, "ann")
    fleet.report(database, "h/cpu/1", began=True, host="h", pid=1, device="cpu", queues="cpu",
                 version="0", state="idle")  # fmt: skip
    with client_of(made(database, fleet_routes.router(database))) as client:
        client.headers["Authorization"] = user
        for ask in (client.post, client.delete):
            assert ask("/api/v1/workers/h/cpu/1/drain").status_code == 403
    assert not fleet.drained(database, "h/cpu/1")


def test_a_worker_that_comes_back_keeps_its_row(database, tmp_path) -> None:
    about = {"host": "h", "pid": 1, "device": "cpu", "queues": "cpu", "version": "0"}
    fleet.report(database, "w", began=True, state="gone", **about)
    fleet.drain(database, "root", "w")
    fleet.report(database, "w", began=True, state="idle", **about)
    assert fleet.drained(database, "w")
    fleet.undrain(database, "root", "w")
    assert not fleet.drained(database, "w")
    assert a_worker(database, tmp_path).name == "w"
