"""Frozen dataclasses to and from plain JSON values, by their type hints.

Fraction is "24000/1001", Path is its text, tuple is a list, a union of dataclasses carries its
class name under "is".
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """A JSON value that `from_plain` turns back into `value`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        body = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **body}
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_plain(kind: type[T], value: Any) -> T:
    """Build `kind` from what `to_plain` gave. Raises ValueError that names the field at fault."""
    return typing.cast(T, _build(kind, value, "$"))


def _build(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(kind), value, where)
    if origin is typing.Literal:
        return _checked(value, value in typing.get_args(kind), kind, where)
    if origin is tuple:
        return _tuple(typing.get_args(kind), value, where)
    if origin in (dict, Mapping):
        _checked(value, isinstance(value, dict), kind, where)
        of = typing.get_args(kind)[1]
        return {k: _build(of, v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, value, where)
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is Any:
        return value
    if kind in (Fraction, Path):
        try:
            return kind(value)
        except (TypeError, ValueError, ZeroDivisionError):
            _checked(value, False, kind, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is types.NoneType:
        return _checked(value, value is None, kind, where)
    return _checked(value, type(value) is kind, kind, where)


def _checked(value: Any, good: bool, kind: Any, where: str) -> Any:
    if not good:
        raise ValueError(f"{where}: {value!r} is not {getattr(kind, '__name__', kind)}")
    return value


def _dataclass(kind: type, value: Any, where: str) -> Any:
    _checked(value, isinstance(value, dict), kind, where)
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]
    unknown = sorted(set(value) - set(names) - {"is"})
    if unknown:
        raise ValueError(f"{where}: {kind.__name__} has no field {', '.join(unknown)}")
    given = {n: _build(hints[n], value[n], f"{where}.{n}") for n in names if n in value}
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    _checked(value, isinstance(value, list), tuple, where)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _checked(value, len(kinds) == len(value), tuple, where)
    return tuple(
        _build(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True))
    )


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if isinstance(value, dict) and "is" in value:
        kinds = tuple(k for k in kinds if getattr(k, "__name__", "") == value["is"]) or kinds
    reasons = []
    for kind in kinds:
        try:
            return _build(kind, value, where)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError("; ".join(reasons))


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Every leaf that differs between two plain values, as "path: old -> new"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [
            line
            for k in keys
            for line in differences(old.get(k), new.get(k), f"{where}.{k}" if where else k)
        ]
    return [] if old == new else [f"{where}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
