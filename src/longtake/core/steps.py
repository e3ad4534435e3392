"""Generators that tell what they do and give something in the end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")


def told(steps: Generator[A, None, R], as_: Callable[[A], B]) -> Generator[B, None, R]:
    """The same steps in other words, and the same result."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: R = end.value
            return result
        yield as_(step)


def done(steps: Generator[Any, None, R]) -> R:
    """The result, once all steps are taken."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: R = end.value
            return result
