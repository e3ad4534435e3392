"""The schema of a job's parameters, made from the flags of `longtake upscale`."""

from __future__ import annotations

import types
import typing
from fractions import Fraction
from typing import Annotated, Any, Final

from pydantic import TypeAdapter, WithJsonSchema

from longtake.core.task import Limits, Option, Upscale, options

COMPONENT: Final = "x-component"
HIDDEN: Final = ("devices",)  # workers have theirs


def schema() -> dict[str, Any]:
    """Of an object with any of the parameters."""
    made = {}
    for kind in (Upscale, Limits):
        hints = typing.get_type_hints(kind)
        for field, option in options(kind):
            if field.name not in HIDDEN:
                made[field.name] = _of(hints[field.name], option)
    return {
        "type": "object", "additionalProperties": False, "properties": made,
        "description": "named and valued as the flags of `longtake upscale`",
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
