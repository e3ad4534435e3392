"""Films from words over HTTP: what is taken, what is refused and why, and to whom it belongs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import func, select

from longtake.cli.main import main
from longtake.core.plain import to_plain
from longtake.media import stills
from longtake.planner import machines
from longtake.service import tables
from longtake.service.fleet import report
from longtake.service.planning import LONGEST
from tests.media import films
from tests.needs.test_generate import folder_of
from tests.service.serving import client_of, ready, somebody, whole

KNOBS = {"size": "64x48", "frames": 9, "steps": 3, "dtype": "float32"}
PARAMS = {"prompt": "a cat walks", "set": KNOBS}
BODY: dict[str, Any] = {"kind": "generate", "params": PARAMS}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("weights")
    for version in ("t2v-1.3b", "i2v-14b-480p"):
        folder_of(home, version).rename(home / f"wan-{version}")
    return home


class Asker:
    """Somebody who asks the service."""

    def __init__(self, client: httpx.Client, header: str) -> None:
        self._client, self.header = client, header

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        given = {"Authorization": self.header, **headers}
        return self._client.request(method, f"/api/v1/{path}", json=body, headers=given)

    def made(self, **more: Any) -> str:
        answer = self("POST", "jobs", {**BODY, **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def refused(self, route: str = "plans", status: int = 422, **more: Any) -> str:
        """The words of a refusal."""
        answer = self("POST", route, {**BODY, **more})
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        return str(answer.json()["detail"])


@pytest.fixture
def people(database, tmp_path: Path, weights: Path, monkeypatch) -> Iterator[dict[str, Any]]:
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(weights))
    app, chores = whole(database, tmp_path)
    picture = tmp_path / "cat.png"
    picture.write_bytes(stills.png(np.full((60, 80, 3), 90, np.uint8)))
    with client_of(app) as client:
        ada, bob = (Asker(client, somebody(database, name)[1]) for name in ("ada", "bob"))
        yield {
            "ada": ada, "bob": bob, "app": app,
            "picture": ready(client, chores, picture, ada.header),
            "film": ready(client, chores, films.make(tmp_path / "in.mp4", frames=4), ada.header),
        }  # fmt: skip


ONE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def test_a_job_is_planned_shown_and_owned(people, database) -> None:
    ada, bob = people["ada"], people["bob"]
    plan = ada("POST", "plans", BODY).raise_for_status().json()
    assert (plan["frames"], plan["width"], plan["height"], plan["segments"]) == (9, 64, 48, 1)
    assert plan["ram"] > 0
    assert plan["disk"] > 0
    assert plan["knobs"]["sampler"] == "unipc"
    params = {**PARAMS, "prompt": "一只猫\nwalks  ", "negative": "blur", "seed": 7, "bits": 10}
    name = ada.made(params=params, container="mkv", priority=3)
    job = ada("GET", f"jobs/{name}").json()
    task = job["task"]
    assert (job["kind"], task["kind"], job["name"]) == ("generate", "generate", "一只猫_walks.mkv")
    assert (task["prompt"], task["negative"]) == ("一只猫\nwalks  ", "blur")
    assert (task["seed"], task["bits"], task["engine"], job["priority"]) == (7, 10, "wan", 3)
    assert job["asset"] is None
    assert job["progress"]["sampler"] is None
    stored = ada("GET", f"jobs/{name}/plan").json()
    assert stored["plan"]["recipe"]["reading"]["prompt"] == "一只猫\nwalks  "
    for method, path in (("GET", ""), ("GET", "/plan"), ("POST", "/cancel"), ("DELETE", "")):
        assert bob(method, f"jobs/{name}{path}").status_code == 404
    assert bob("GET", "jobs").json()["jobs"] == []
    with database.read() as connection:
        assert connection.execute(select(tables.job.c.kind)).scalar_one() == "generate"


@ONE
def test_a_picture_is_an_asset_of_one_s_own(people) -> None:
    ada, bob, picture = people["ada"], people["bob"], people["picture"]
    seeing = {**PARAMS, "set": {**KNOBS, "model": "i2v-14b-480p"}}
    name = ada.made(params=seeing, asset=picture)
    plan = ada("GET", f"jobs/{name}/plan").json()["preview"]
    assert plan["width"] / plan["height"] == pytest.approx(80 / 60, abs=0.3)
    assert ada("GET", f"jobs/{name}").json()["asset"] == picture
    assert ada("DELETE", f"assets/{picture}").status_code == 409
    assert "needs a picture: --image FILE, or the `asset` of a job" in ada.refused(params=seeing)
    assert "takes no picture" in ada.refused(asset=picture)
    assert "asset: in.mp4 is a film; give a picture" in ada.refused(
        params=seeing, asset=people["film"]
    )
    bob.refused(params=seeing, asset=picture, status=404)
    named = {**PARAMS, "image": "/etc/passwd"}
    assert "image: upload the picture" in ada.refused(params=named)


@ONE
@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"set": KNOBS}, "prompt: say in `params.prompt` what the film shows"),
        ({**PARAMS, "prompt": " \n "}, "prompt: say"),
        ({**PARAMS, "prompt": 3}, "prompt: a text is needed, not int"),
        ({**PARAMS, "prompt": "x" * (LONGEST + 1)}, f"at most {LONGEST:,}"),
        ({**PARAMS, "negative": "x" * (LONGEST + 1)}, "negative: "),
        ({**PARAMS, "prompt": "a\u0000b"}, "prompt: the character U+0000"),
        ({**PARAMS, "negative": "a\u001bb"}, "negative: the character U+001B"),
        ({**PARAMS, "scale": 2}, "There is no parameter scale; there are "),
        ({**PARAMS, "engine": "lite"}, "lite"),
        ({**PARAMS, "codec": "gif"}, "codec=gif: there are "),
        ({**PARAMS, "set": {**KNOBS, "frames": 10}}, "take 9 or 13"),
        ({**PARAMS, "set": {**KNOBS, "magic": 1}}, "magic"),
        ({**PARAMS, "set": {**KNOBS, "folder": "/etc"}}, "folder: this is set where the workers"),
        ({**PARAMS, "seed": "seven"}, "$.seed"),
        ({**PARAMS, "ram": 1 << 20}, "It fits"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(people, params, said) -> None:
    if said == "It fits":
        assert "RAM" in people["ada"].refused(params=params)
        return
    for route in ("plans", "jobs"):
        assert said in people["ada"].refused(route, params=params)
    assert people["ada"]("GET", "jobs").json()["jobs"] == []


@ONE
def test_missing_weights_are_told_as_the_command_line_tells_it(people, tmp_path, capsys) -> None:
    params = {**PARAMS, "set": {"model": "t2v-14b"}}
    answer = people["ada"]("POST", "jobs", {**BODY, "params": params})
    assert (answer.status_code, answer.json()["code"]) == (422, "WeightsMissing")
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--prompt", "x", str(tmp_path / "x.mp4"), "--set", "model=t2v-14b"])
    assert ended.value.code == 2
    by_hand = capsys.readouterr().err
    assert "Run: longtake weights pull wan-t2v-14b" in answer.json()["detail"]
    assert answer.json()["detail"] in by_hand


@ONE
def test_asked_twice_with_a_key_it_is_one_job(people, database) -> None:
    ada, key = people["ada"], {"Idempotency-Key": "cat-1"}
    answers = [ada("POST", "jobs", BODY, **key) for _ in range(3)]
    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["id"] for a in answers}) == 1
    other = {**BODY, "params": {**PARAMS, "prompt": "a dog"}}
    assert ada("POST", "jobs", other, **key).status_code == 422
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.job)).scalar_one() == 1


@ONE
def test_presets_are_of_a_kind(people) -> None:
    ada = people["ada"]
    listed = {one["id"]: one for one in ada("GET", "presets").json()["presets"]}
    assert listed["wan:standard"]["kind"] == "generate"
    assert listed["lite:crisp"]["kind"] == "upscale"
    assert listed["wan:memory-optimized"]["params"]["place"] == {"vram_threshold_percent": 40}
    knobs = {name: value for name, value in KNOBS.items() if name != "steps"}
    params = {"prompt": "a cat", "set": knobs}
    filled = ada("POST", "plans", {**BODY, "params": params, "preset": "wan:fast-preview"}).json()
    assert (filled["knobs"]["steps"], filled["knobs"]["guidance"]) == (4, 1.0)
    own = {"name": "short", "kind": "generate", "params": {"set": {"steps": 2}, "negative": "blur"}}
    mine = ada("POST", "presets", own).raise_for_status().json()
    assert mine["kind"] == "generate"
    name = ada.made(params=params, preset=mine["id"])
    task = ada("GET", f"jobs/{name}").json()["task"]
    assert (task["negative"], task["set"]["steps"]) == ("blur", 2)
    assert "is for jobs that upscale" in ada.refused(preset="lite:crisp")
    body = {"asset": people["film"], "params": {"engine": "resize"}, "preset": mine["id"]}
    refused = ada("POST", "plans", body)
    assert (refused.status_code, "is for jobs that generate" in refused.text) == (422, True)
    wrong = {"name": "odd", "kind": "generate", "params": {"scale": 2}}
    assert ada("POST", "presets", wrong).status_code == 422
    changed = {"name": "short", "params": {"set": {"steps": 5}}}
    assert ada("PUT", f"presets/{mine['id']}", changed).json()["kind"] == "generate"


@ONE
def test_what_an_engine_s_preset_says_of_memory_counts(people, database) -> None:
    """And one's own word before it."""
    ada, machine = people["ada"], machines.described("h200")
    body = {**BODY, "params": {"prompt": "a cat", "set": {**KNOBS, "text_dtype": "float32"}}}

    def worker(vram: int) -> None:
        gpu = replace(machine.gpus[0], vram=vram, free=vram)
        plain = json.dumps(to_plain(replace(machine, gpus=(gpu,))))
        report(database, "w", host="there", pid=1, device="cuda:0", queues="gpu", version="0",
               numerics="x", state="idle", machine=plain)  # fmt: skip

    def planned(preset: str, **more: Any) -> httpx.Response:
        params = {**body["params"], **more}
        return ada("POST", "plans", {**body, "params": params, "preset": f"wan:{preset}"})

    worker(80 << 30)
    need = planned("standard").raise_for_status().json()["vram"]
    assert need > 0
    worker(2 * need)
    assert planned("standard").status_code == planned("speed-optimized").status_code == 200
    refused = planned("memory-optimized")
    assert (refused.status_code, refused.json()["code"]) == (422, "DoesNotFit")
    assert "(--place vram_threshold_percent)" in refused.json()["detail"]
    own = {"place": {"vram_threshold_percent": 90}}
    assert planned("memory-optimized", **own).raise_for_status().json()["vram"] == need
    for more, share in (({}, 60), (own, 90)):
        name = ada.made(params={**body["params"], **more}, preset="wan:speed-optimized")
        with database.read() as connection:
            found = select(tables.job.c.limits).where(tables.job.c.id == name)
            limits = json.loads(connection.execute(found).scalar_one())
        assert limits["place"] == {"vram_threshold_percent": share}


@ONE
def test_the_film_to_come_is_made_larger_by_another_job(people) -> None:
    ada = people["ada"]
    first = ada.made()
    body = {"parent": first, "params": {"engine": "resize", "scale": 2}}
    plan = ada("POST", "plans", body).raise_for_status().json()
    assert (plan["frames"], plan["width"], plan["height"]) == (9, 128, 96)
    second = ada("POST", "jobs", body).raise_for_status().json()["id"]
    job = ada("GET", f"jobs/{second}").json()
    assert (job["parent"], job["name"]) == (first, "a_cat_walks_large.mp4")
    assert "parent: " in ada.refused(parent=first)


@ONE
def test_forms_and_clients_are_told_what_can_be_set(people) -> None:
    ada = people["ada"]
    (wan,) = ada("GET", "engines").json()["generators"]
    knobs = {knob["name"]: knob for knob in wan["knobs"]}
    assert knobs["frames"]["kind"] == "integer"
    assert knobs["model"]["choices"][0] == knobs["model"]["default"]
    assert "folder" not in knobs  # a place on the workers' machines
    assert wan["presets"][0]["name"] == "standard"
    schemas = ada("GET", "openapi.json").json()["components"]["schemas"]
    params = schemas["GenerateParams"]["properties"]
    assert params["prompt"]["maxLength"] == params["negative"]["maxLength"] == LONGEST
    assert {"seed", "bits", "set", "engine", "codec"} <= set(params)
    assert not {"image", "scale", "devices"} & set(params)
    assert json.dumps(schemas["Job"]["properties"]["kind"]).count("generate") == 1


@ONE
def test_planning_needs_no_torch(people) -> None:
    """The process of the API has none: this is asked in one that was never told of it."""
    import subprocess

    words = (
        "import sys; from longtake.service import planning; "
        "asked = planning.from_words(None, {'prompt': 'a cat'}, 'mp4'); "
        "from longtake.runtime.prepare import draft_seen; "
        "from longtake.planner.survey import survey; "
        "from longtake.planner.calibration import Calibration; from pathlib import Path; "
        "draft_seen(asked.task, None, asked.limits, survey(), Calibration(Path('x'))); "
        "print('torch' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", words], check=False, capture_output=True, text=True
    )
    assert said.stdout.strip() == "False" or "RAM" in said.stderr, said.stderr
