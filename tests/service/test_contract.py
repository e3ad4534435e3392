"""The contract: what OpenAPI says of every operation is what it does, whatever is sent."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.config._checks import (
    MISSING_REQUIRED_HEADER_EXPECTED_STATUSES,
    NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES,
    POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES,
)
from schemathesis.engine import Status, events, from_schema
from schemathesis.python.asgi import shutdown_lifespans

from longtake import __version__
from longtake.core.media import VideoInfo
from longtake.core.task import Generate, Upscale, options
from longtake.service import presets, tables
from longtake.service.assembly import assemble
from longtake.service.auth import Auth
from longtake.service.database import Database
from longtake.service.jobs import identifier
from longtake.service.routes import jobs as job_routes
from longtake.service.routes import shapes
from longtake.service.stream import Pace
from longtake.settings import Settings
from tests.media import films
from tests.service.furnished import API, PARAMS, STATES, House
from tests.service.serving import bearer, somebody

JUDGED = {
    "create_job": "whether engine, knobs and limits go together and fit is found out by planning",
    "create_plan": "the same",
    "create_preset": "the same of its parameters",
    "replace_preset": "the same of its parameters",
    "create_asset": "a path must lie under a configured folder",
    "list_folder": "a path must lie under a configured folder",
    "create_webhook": "what addresses and secrets are good is more than a pattern says",
    "create_token": "a user must be there, and `session` is taken",
    "add_user": "a name may be taken",
    "start_pull": "the model that the package carries is not fetched",
    "stop_pull": "the same",
    "change_user": "the last admin stays one",
}
"""Operations that may answer 422 to what their schema allows, and why."""


ALIKE = ["create_plan", "create_preset", "replace_preset"]
"""What create_job is asked in hundreds of ways need not be asked of these, too, every time."""


@pytest.fixture
def house(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("LONGTAKE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing is fetched
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nor from the other hub, by the child
    monkeypatch.setattr(job_routes, "_LONGEST_WAIT", 1)  # s
    (tmp_path / "films").mkdir()
    film = films.make(tmp_path / "films" / "holiday.mp4", frames=30, size=(64, 48), sound=True)
    settings = Settings(
        cache=tmp_path, data=tmp_path / "data", database=database.url, roots=(film.parent,),
        callable=frozenset({"127.0.0.1"}),
    )  # fmt: skip
    app, _ = assemble(settings, database, Auth(database, "tokens", hosts=("testserver",)))
    app.state.tailer.pace = Pace(look=0.05, ping=0.1, life=0.2)
    owner, header = somebody(database, role="admin")
    return House(app, database, settings.data, film, owner, header)


# --- whatever is sent ----------------------------------------------------------------------------


def configuration(house: House, examples: int, phases: set[str]) -> SchemathesisConfig:
    judged = [*POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES, "422"]
    tus = ["400", "410", "412", "413", "423", "460"]  # the protocol's own, for lengths and hashes
    uploads = {
        "positive_data_acceptance": [*POSITIVE_DATA_ACCEPTANCE_EXPECTED_STATUSES, *tus],
        "negative_data_rejection": [*NEGATIVE_DATA_REJECTION_EXPECTED_STATUSES, *tus],
        "missing_required_header": [*MISSING_REQUIRED_HEADER_EXPECTED_STATUSES, "412"],
    }
    drawn, others = {"include-operation-id": ALIKE}, {"exclude-operation-id": ALIKE}
    alike = [
        {**drawn, "generation": {"max-examples": 12}, "phases": {"coverage": {"enabled": False}}},
        {**others, "phases": {"fuzzing": {"enabled": "coverage" not in phases}}},
    ]
    return SchemathesisConfig.from_dict({
        "seed": 17,
        "auth": {"openapi": {"token": {"bearer": house.header.removeprefix("Bearer ")}}},
        "generation": {"deterministic": True, "max-examples": examples, "no-shrink": True},
        "phases": {
            **{name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing")},
            # there a film's name is tried as an id, because answers call it `name`
            "stateful": {"enabled": "stateful" in phases,
                         "checks": {"positive_data_acceptance": {"enabled": False}}},
        },
        "continue-on-failure": True,
        "max-stream-events": 3,
        "operations": [
            *(alike if len(phases) < len(LONG) else ()),
            *({"include-operation-id": name,
               "checks": {"positive_data_acceptance": {"expected-statuses": judged}}}
              for name in JUDGED),
            {"include-tag": "uploads",
             "generation": {"allow-extra-parameters": False},  # no header is refused for its name
             "checks": {name: {"expected-statuses": found} for name, found in uploads.items()}},
        ],
    })  # fmt: skip


def asked(house: House, config: SchemathesisConfig) -> tuple[dict[str, str], dict[str, set[int]]]:
    """What was found, by operation and check; and the answers of every operation."""
    schemathesis.openapi.media_type("application/offset+octet-stream", st.binary(max_size=20))
    schema = schemathesis.openapi.from_asgi(f"{API}/openapi.json", house.app, config=config)

    found: dict[str, str] = {}
    answers: dict[str, set[int]] = defaultdict(set)
    for operation in schema.get_all_operations():
        answers[operation.ok().label] = set()
    for event in _executed(house, schema):
        if isinstance(event, events.NonFatalError | events.FatalError):
            error = getattr(event, "value", None) or getattr(event, "exception", None)
            found[f"error: {type(error).__name__}"] = str(error)
        if not isinstance(event, events.ScenarioFinished):
            continue
        for name, one in event.recorder.interactions.items():
            if one.response is not None:
                label = event.recorder.cases[name].value.operation.label
                answers[label].add(one.response.status_code)
        for check in (check for checks in event.recorder.checks.values() for check in checks):
            if check.status == Status.FAILURE:
                info = check.failure_info
                words = f"{info.failure.message}\n{info.code_sample}"
                found[f"{info.failure.operation} {check.name}: {info.failure.title}"] = words
    return found, answers


def _executed(house: House, schema: Any) -> Iterator[Any]:
    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        _settle_in(house, case)

    schemathesis.hook(before_call)
    try:
        yield from from_schema(schema).execute()
    finally:
        schemathesis.hooks.unregister(before_call)
        shutdown_lifespans()


def _settle_in(house: House, case: Any) -> None:
    """Every other request is about things that are there."""
    path, given = case.operation.path, case.path_parameters or {}
    kind = path.removeprefix(API).split("/")[1]
    if kind in ("users", "tokens"):
        house.let_in()
    if house.draw.random() < 0.5:
        return
    task = path.rpartition("/")[2]
    for name in {"name", "id"} & set(given):
        if re.fullmatch(r"[\w.-]+", str(given[name])):
            special = task in STATES or (kind, case.method) == ("assets", "DELETE")
            given[name] = house.real(kind, task if special else "")
    if re.fullmatch(r"\w+", str(given.get("which", ""))):
        given["which"] = house.delivery()
    if isinstance(case.body, dict):
        good = {
            "parent": None, "preset": None, "params": PARAMS, "container": "mkv", "kind": "upscale",
            "path": str(house.film), "url": "http://127.0.0.1:9/", "secret": None, "events": ["*"],
            "job": None, "token": house.header.removeprefix("Bearer "), "user": None,
            "name": identifier(),
        }  # fmt: skip
        if "asset" in case.body:
            good["asset"] = house.real("assets")
        case.body.update({name: good[name] for name in good if name in case.body})
    if task == "folders":
        case.query = {"path": str(house.film.parent)}


def told(found: dict[str, str]) -> str:
    return "\n\n".join(f"{title}\n{words[:1500]}" for title, words in sorted(found.items()))


LONG = {"examples", "coverage", "fuzzing", "stateful"}
MANY = 40  # examples of an operation, of which one at least is answered with what was asked for


@pytest.mark.parametrize(
    ("database", "examples", "phases"),
    [
        ("sqlite", 3, LONG - {"examples"}),
        ("postgresql", 5, {"fuzzing"}),
        pytest.param("sqlite", MANY, LONG, marks=pytest.mark.long),
        pytest.param("postgresql", MANY, LONG, marks=pytest.mark.long),
    ],
    indirect=["database"],
)
def test_every_operation_does_what_it_says(house: House, examples: int, phases: set[str]) -> None:
    found, answers = asked(house, configuration(house, examples, phases))
    assert not found, told(found)
    never = [label for label, statuses in answers.items() if not any(s < 300 for s in statuses)]
    assert not never or examples < MANY, f"these never succeeded: {never}"


# --- what it says --------------------------------------------------------------------------------


def test_every_answer_has_a_shape_and_every_operation_a_name(house: House) -> None:
    schema = house.web.get(f"{API}/openapi.json").json()
    operations = [each for path in schema["paths"].values() for each in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
        for status, answer in operation["responses"].items():
            for kind, body in answer.get("content", {}).items():
                said = body["schema"]
                typed = "$ref" in said or kind == "text/event-stream"
                assert typed or "json" not in kind, (operation["operationId"], status)
    problem = schema["components"]["schemas"]["Problem"]
    assert set(problem["required"]) <= set(house.web.get(f"{API}/jobs/none").json())


def test_shapes_are_those_of_what_is_kept() -> None:
    for literal, known in (
        (shapes.JobState, tables.JOB_STATES), (shapes.StepState, tables.STEP_STATES),
        (shapes.StepKind, tables.STEP_KINDS), (shapes.Scope, tables.SCOPES),
    ):  # fmt: skip
        assert typing.get_args(literal) == known
    assert set(shapes.Counts.model_fields) == set(tables.STEP_STATES)
    for shape, task, more in (
        (shapes.Task, Upscale, {"kind"}),
        (shapes.Generation, Generate, {"kind", "prompt"}),  # a picture is the job's asset
    ):
        named = {option.name for option, _ in options(task)} - {"image"}
        assert set(shape.model_fields) == named | more
    assert typing.get_args(shapes.Job.model_fields["kind"].annotation) == tables.JOB_KINDS
    assert typing.get_args(presets.Kind) == tables.JOB_KINDS
    kept_back = {"path", "exact", "time_base", "start", "telecine", "stream"}
    of_a_film = {each.name for each in dataclasses.fields(VideoInfo)} - kept_back
    assert set(shapes.Film.model_fields) == of_a_film


def test_jobs_are_asked_for_by_states_and_in_pages(house: House) -> None:
    def ids(**query: Any) -> list[str]:
        answer = house.web.get(f"{API}/jobs", params=query)
        assert answer.is_success, answer.text
        return [job["id"] for job in answer.json()["jobs"]]

    ended = [house.job("") for _ in range(3)][::-1]
    paused, queued = house.job("resume"), house.job("pause")
    everything = [queued, paused, *ended]
    assert ids() == everything
    assert ids(state="active") == [queued, paused]
    assert ids(state="ended") == ids(state="cancelled") == ended
    assert ids(state=["paused", "ended"]) == [paused, *ended]
    assert ids(state=["active", "ended"]) == everything
    found, cursor = [], {}
    while True:
        page = house.web.get(f"{API}/jobs", params={"most": 2, "state": "ended", **cursor}).json()
        found += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == ended
    for wrong in ({"state": "gone"}, {"cursor": "x"}, {"cursor": "9" * 19 + "-a"}):
        assert house.web.get(f"{API}/jobs", params=wrong).status_code == 422


def test_the_system_tells_what_a_page_needs(house: House) -> None:
    found = house.web.get(f"{API}/system").json()
    assert (found["version"], found["auth"]) == (__version__, "tokens")
    assert found["database"] == ("sqlite" if house.database.is_sqlite else "postgresql")
    assert found["roots"] == [str(house.film.parent)]
    assert 0 < found["disk"]["free"] <= found["disk"]["total"]
    assert 0 < found["disk"]["low_water"] < found["disk"]["total"]
    assert 0 < found["ram"]["available"] <= found["ram"]["total"]
    assert 0 <= found["uptime"] < 600
    me = {"owner": house.owner, "name": "ada", "admin": True, "scopes": sorted(tables.SCOPES)}
    assert found["me"] == me
    scopes = ("jobs:read",)
    house.web.headers["authorization"] = bearer(house.database, house.owner, *scopes)
    me = house.web.get(f"{API}/system").json()["me"]
    assert (me["admin"], me["scopes"]) == (False, list(scopes))


def test_engines_tell_forms_their_knobs(house: House) -> None:
    engines = {each["name"]: each for each in house.web.get(f"{API}/engines").json()["engines"]}
    knobs = {knob["name"]: knob for knob in engines["flashvsr"]["knobs"]}
    assert knobs["mode"]["kind"] == "choice"
    assert knobs["mode"]["default"] in knobs["mode"]["choices"]
    assert (knobs["sparse_ratio"]["kind"], knobs["kv_ratio"]["kind"]) == ("number", "integer")
    assert (knobs["kv_ratio"]["least"], knobs["kv_ratio"]["most"]) == (1, 16)
    assert "folder" not in knobs  # a place on the workers' machines
    for engine in engines.values():
        for knob in engine["knobs"]:
            body = {"asset": house.real("assets"), "params": {
                "engine": engine["name"], "scale": 2, "set": {knob["name"]: knob["default"]},
            }}  # fmt: skip
            answer = house.web.post(f"{API}/plans", json=body)
            assert answer.status_code == 200 or "weights" in answer.text, answer.text
