"""What a generator gives in the end comes through, and closing it closes what it is made of."""

from __future__ import annotations

import pytest

from longtake.core.steps import done, told


class Count:
    def __init__(self) -> None:
        self.closed = False

    def __call__(self, to: int):
        try:
            yield from range(to)
            return f"all {to}"
        finally:
            self.closed = True


def test_steps_in_other_words_and_the_same_result() -> None:
    said = []

    def outer():
        result = yield from told(Count()(3), lambda n: f"step {n}")
        said.append(result)

    assert list(outer()) == ["step 0", "step 1", "step 2"]
    assert said == ["all 3"]


def test_the_result_alone() -> None:
    assert done(Count()(5)) == "all 5"
    assert done(Count()(0)) == "all 0"


def test_closed_early_the_steps_are_closed_at_once() -> None:
    count = Count()
    words = told(count(9), str)
    assert next(words) == "0"
    words.close()
    assert count.closed


def test_an_error_goes_through() -> None:
    def wrong():
        yield 1
        raise ValueError("two")

    with pytest.raises(ValueError, match="two"):
        done(told(wrong(), str))
