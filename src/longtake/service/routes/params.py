"""The schemas of jobs' parameters, made from the flags of `longtake upscale` and `generate`."""

from __future__ import annotations

import types
import typing
from fractions import Fraction
from typing import Annotated, Any, Final

from pydantic import TypeAdapter, WithJsonSchema

from longtake.core.task import Generate, Limits, Option, Upscale, options
from longtake.service.planning import LONGEST

COMPONENT: Final = "x-component"
HIDDEN: Final = ("devices", "image")  # workers have theirs; a picture is an asset
_WORDS: Final[dict[str, Any]] = {"type": "string", "maxLength": LONGEST}


def schemas() -> dict[str, Any]:
    """By name: of objects with any of the parameters."""
    prompt = {**_WORDS, "description": "what it shows"}
    made = {
        "UpscaleParams": _schema("upscale", Upscale),
        "GenerateParams": _schema("generate", Generate, prompt=prompt),
    }
    made["GenerateParams"]["properties"]["negative"] |= _WORDS
    either = [{"$ref": f"#/components/schemas/{name}"} for name in made]
    return {**made, "Params": {"anyOf": either}}


def _schema(command: str, task: type[Any], **more: Any) -> dict[str, Any]:
    made = dict(more)
    for kind in (task, Limits):
        hints = typing.get_type_hints(kind)
        for field, option in options(kind):
            if field.name not in HIDDEN:
                made[field.name] = _of(hints[field.name], option)
    return {
        "type": "object", "additionalProperties": False, "properties": made,
        "description": f"named and valued as the flags of `longtake {command}`",
    }  # fmt: skip


def _of(hint: Any, option: Option) -> dict[str, Any]:
    """One parameter: its type, or what can be chosen."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
    none: tuple[None, ...] = (None,) if types.NoneType in kinds else ()
    unit = "; bytes" if option.metavar == "SIZE" else ""
    made: dict[str, Any] = {"description": option.help + unit}
    if option.choices:
        numbers = [float(word) if "." in word else int(word) for word in option.choices
                   if Fraction in kinds or int in kinds]  # fmt: skip
        words = () if int in kinds else option.choices
        return made | {"enum": [*words, *numbers, *none]}
    if Fraction in kinds:
        ratio = {"type": "string", "pattern": r"^[0-9]{1,9}(/[0-9]{1,9})?$"}
        number = {"type": "number"}
        return made | {"anyOf": [ratio, number, *({"type": "null"} for _ in none)]}
    return TypeAdapter(hint).json_schema() | made


Params = Annotated[dict[str, Any], WithJsonSchema({"type": "object", COMPONENT: "Params"})]
"""Its schema stands among the components of the contract, which puts a reference here."""
