"""The last hand on what FastAPI says of the routes, so that it is exact: `/api/v1/openapi.json`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from longtake.service import problems
from longtake.service.auth import Needs
from longtake.service.routes import params

_EVENTS: Final = "text/event-stream"
_PARTS: Final = "#/components/schemas/"

Routes = Iterable[tuple[str, Sequence[str], Needs | bool | None]]
"""Path, methods and what is needed: a scope, or nothing."""


def finish(schema: dict[str, Any], routes: Routes) -> None:
    """Change the schema in place. It gets the scope of each route: `x-scope`, null where any token
    will do; `x-open` where none is needed."""
    parts = schema.setdefault("components", {})
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    models = parts.setdefault("schemas", {})
    for model in models.values():
        members = model.get("properties", {})
        for name, member in members.items():
            if named := member.get(params.COMPONENT):
                members[name] = {"$ref": f"{_PARTS}{named}"}
    models.update(Problem=dict(problems.SCHEMA), **params.schemas())
    for path, methods, needed in routes:
        for method in methods:
            operation = schema["paths"].get(path, {}).get(method.lower())
            if operation is None:
                continue
            _settle(operation)
            if isinstance(needed, Needs):
                operation |= {"x-scope": needed.scope, "security": [{"token": []}]}
            else:
                operation |= {"x-open": True, "security": []}
    for path, methods in schema["paths"].items():
        if made := methods.get("post"):
            _link(made, path, schema)


def _settle(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
    for response in operation["responses"].values():
        for kind, body in response.get("content", {}).items():
            if kind == _EVENTS:
                body["schema"] = _event(body["schema"]["$ref"])


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter may be left out, but it cannot be null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**kinds[0], **{key: value for key, value in schema.items() if key != "anyOf"}}


def _event(data: str) -> dict[str, Any]:
    """One event of a stream; its data are the JSON of a model."""
    text = {"type": "string"}
    inner = {"contentMediaType": "application/json", "contentSchema": {"$ref": data}}
    return {
        "type": "object", "required": ["data"],
        "properties": {"id": text, "event": text, "data": text | inner},
    }  # fmt: skip


def _link(made: dict[str, Any], path: str, schema: dict[str, Any]) -> None:
    """What was made here by an id can be asked for below its collection by that id."""
    for status, response in made["responses"].items():
        body = response.get("content", {}).get("application/json", {}).get("schema", {})
        model = schema["components"]["schemas"].get(body.get("$ref", "").removeprefix(_PARTS), {})
        if not status.startswith("2") or "id" not in model.get("properties", {}):
            continue
        response["links"] = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {"name": "$response.body#/id"},
            }
            for below, methods in schema["paths"].items()
            if below.startswith(f"{path}/{{name}}") and below.count("{") == 1
            for operation in methods.values()
        }
