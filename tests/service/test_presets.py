"""Presets: of engines, of users, shared; what they fill in, and who may change them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from longtake.core.knobs import settle
from longtake.core.plan import Plan
from longtake.core.plugins import find, names
from longtake.runtime.engines import presets
from longtake.service.database import Database
from tests.media import films
from tests.plans import a_plan
from tests.service.serving import client_of, ready, somebody, whole

PARAMS = {"engine": "resize", "scale": 2, "codec": "ffv1", "set": {"kernel": "bilinear"}}


class Asking:
    """Somebody who asks the service."""

    def __init__(self, client: httpx.Client, header: str) -> None:
        self._client, self.header = client, header

    def __call__(self, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": self.header}
        return self._client.request(method, f"/api/v1/{path}", json=body, headers=headers)

    def made(self, name: str, params: dict[str, Any], **more: Any) -> str:
        answer = self("POST", "presets", {"name": name, "params": params, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def names(self) -> list[tuple[str, str]]:
        found = self("GET", "presets").raise_for_status().json()["presets"]
        return [(one["origin"], one["name"]) for one in found if one["origin"] != "built-in"]


@pytest.fixture
def people(database: Database, tmp_path: Path) -> Iterator[dict[str, Any]]:
    app, chores = whole(database, tmp_path)
    film = films.make(tmp_path / "in.mp4", frames=24)
    with client_of(app) as client:
        askers = {
            name: Asking(client, somebody(database, name, role)[1])
            for name, role in (("ada", "user"), ("bob", "user"), ("root", "admin"))
        }
        asset = ready(client, chores, film, askers["ada"].header)
        yield {**askers, "asset": asset}


def test_every_engine_s_presets_exist_and_differ() -> None:
    for name in names("engines"):
        knobs = find("engines", name).knobs
        found = presets(name)
        settled = [settle(knobs, one.knobs) for one in found]
        assert settled[0] == settle(knobs, {}), f"{name}: the first is not the defaults"
        for i, one in enumerate(found):
            assert settled[i] not in settled[:i], f"{name}:{one.name} is another one's twin"
            assert one.about
        assert len({one.name for one in found}) == len(found)


def test_those_of_engines_can_be_had_by_name(people) -> None:
    ada = people["ada"]
    shown = {one["id"]: one for one in ada("GET", "presets").json()["presets"]}
    makers = [*names("engines"), *names("generators")]
    expected = {f"{name}:{one.name}" for name in makers for one in presets(name)}
    assert set(shown) == expected
    assert shown["lite:crisp"]["params"] == {"engine": "lite", "set": {"look": "crisp"}}
    for which, one in shown.items():
        body = {"asset": people["asset"], "preset": which, "params": {"scale": 2}}
        if one["kind"] == "generate":
            body = {"kind": "generate", "preset": which, "params": {"prompt": "a cat"}}
        answer = ada("POST", "plans", body)
        if which.startswith(("flashvsr", "wan")):
            assert "Weights are missing" in answer.json()["detail"]
            continue
        assert one["params"]["set"].items() <= answer.json()["knobs"].items()


def test_a_preset_fills_in_what_is_not_said(people) -> None:
    ada = people["ada"]
    mine = ada.made("mine", {**PARAMS, "crf": 3, "set": {"kernel": "bicubic", "segment_frames": 9}})
    body = {"asset": people["asset"], "container": "mkv", "preset": mine}
    job = ada("POST", "jobs", {**body, "params": {"scale": 3, "set": {"segment_frames": 12}}})
    task = ada("GET", f"jobs/{job.raise_for_status().json()['id']}").json()["task"]
    assert (task["engine"], task["codec"], task["crf"], task["scale"]) == (
        "resize",
        "ffv1",
        3,
        "3/1",
    )
    assert task["set"] == {"kernel": "bicubic", "segment_frames": 12}
    for wrong, words in (
        ({"preset": "lite:crispy"}, "standard, crisp"),
        ({"preset": "magic:fast"}, "magic"),
        ({"preset": mine, "params": {"engine": "lite"}}, "for the engine resize, not lite"),
    ):
        answer = ada("POST", "jobs", {**body, **wrong})
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["detail"]
    assert ada("POST", "jobs", {**body, "preset": "0" * 26}).status_code == 404


def test_one_s_own_are_nobody_else_s(people) -> None:
    ada, bob, root = people["ada"], people["bob"], people["root"]
    mine = ada.made("mine", PARAMS)
    same = bob.made("mine", PARAMS)  # another's name is free
    assert ada.names() == bob.names() == [("own", "mine")]
    for other in (bob, root):
        assert other("PUT", f"presets/{mine}", {"name": "x", "params": {}}).status_code == 404
        assert other("DELETE", f"presets/{mine}").status_code == 404
        body = {"asset": people["asset"], "preset": mine}
        assert other("POST", "plans", body).status_code == 404
    assert ada("POST", "presets", {"name": "mine", "params": {}}).status_code == 409
    other = ada.made("other", {})
    assert ada("PUT", f"presets/{other}", {"name": "mine", "params": {}}).status_code == 409
    changed = ada("PUT", f"presets/{other}", {"name": "third", "params": {"scale": 4}}).json()
    assert (changed["id"], changed["name"], changed["params"]) == (other, "third", {"scale": 4})
    assert ada("DELETE", f"presets/{mine}").status_code == 204
    assert ada("DELETE", f"presets/{mine}").status_code == 404
    assert bob("GET", "presets").json()["presets"][-1]["id"] == same


def test_admins_share(people) -> None:
    ada, root = people["ada"], people["root"]
    refused = ada("POST", "presets", {"name": "house", "params": PARAMS, "shared": True})
    assert refused.status_code == 403
    house = root.made("house", PARAMS, shared=True)
    assert ada.names() == [("shared", "house")]
    body = {"asset": people["asset"], "preset": house, "container": "mkv"}
    assert ada("POST", "plans", body).json()["knobs"]["kernel"] == "bilinear"
    again = root("POST", "presets", {"name": "house", "params": {}, "shared": True})
    assert again.status_code == 409
    assert ada("PUT", f"presets/{house}", {"name": "x", "params": {}}).status_code == 404
    assert ada("DELETE", f"presets/{house}").status_code == 404
    assert root("PUT", f"presets/{house}", {"name": "casa", "params": {}}).status_code == 200
    assert root("DELETE", f"presets/{house}").status_code == 204
    assert ada.names() == []


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"engine": "magic"}, "magic"),
    ({"colour": "red"}, "colour"),
    ({"scale": "many"}, "scale"),
    ({"codec": "mpeg1"}, "mpeg1"),
    ({"engine": "resize", "set": {"kernel": "round"}}, "kernel=round"),
    ({"engine": "lite", "set": {"kernel": "lanczos"}}, "no knob 'kernel'"),
    ({"set": 7}, "set"),
]


def test_what_no_job_could_have_is_no_preset(people) -> None:
    for params, words in IMPOSSIBLE:
        answer = people["ada"]("POST", "presets", {"name": "bad", "params": params})
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["detail"]
    assert people["ada"].names() == []


# --- the command line ----------------------------------------------------------------------------


def plan(longtake: Any, film: Path, *words: str) -> dict[str, Any]:
    done = longtake("plan", "upscale", film, film.with_name("out.mkv"), "--json", *words)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_command_line_has_them(longtake, tmp_path) -> None:
    film = films.make(tmp_path / "in.mp4", frames=12)
    plain = plan(longtake, film, "--engine", "resize")
    soft = plan(longtake, film, "--engine", "resize", "--preset", "soft")
    assert plain["recipe"]["knobs"] == {"kernel": "lanczos"}
    assert soft["recipe"]["knobs"] == {"kernel": "bicubic"}
    assert "Preset soft (bicubic: less ringing at hard edges): kernel=bicubic." in soft["notes"]
    words = ("--engine", "resize", "--set", "kernel=bilinear", "--preset", "soft")
    assert plan(longtake, film, *words)["recipe"]["knobs"] == {"kernel": "bilinear"}
    for wrong in ("gentle", "crisp", "medium"):
        refused = longtake("upscale", film, tmp_path / "no.mkv", "--engine", "resize",
                           "--preset", wrong)  # fmt: skip
        assert refused.returncode == 2
        assert f"--preset {wrong}: the engine resize has standard, soft." in refused.stderr
        assert ("--effort medium" in refused.stderr) == (wrong == "medium")
    listed = longtake("engines", "--json")
    engines = {one["name"]: one for one in json.loads(listed.stdout)}
    assert [one["name"] for one in engines["lite"]["presets"]] == ["standard", "crisp"]
    assert "--preset crisp" in longtake("engines").stdout


def test_a_plan_that_was_stored_before_is_read() -> None:
    """The encoder's effort was called preset."""
    plan = a_plan({"effort": "slow"})
    stored = plan.to_json().replace('"effort":', '"preset":')
    assert '"effort"' not in stored
    assert Plan.from_json(stored).task.effort == "slow"
    assert Plan.from_json(stored).identity == plan.identity


def test_a_batch_and_a_film_say_so(longtake, tmp_path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    films.make(folder / "a.mp4", frames=6)
    words = ("--engine", "resize", "--preset", "soft", "--scale", "2")
    for source, target in ((folder, tmp_path / "made"), (folder / "a.mp4", tmp_path / "a.mkv")):
        done = longtake("upscale", source, target, *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Preset soft") == 1
