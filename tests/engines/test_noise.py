"""Noise belongs to its place and is normal."""

from __future__ import annotations

import torch

from longtake.engines._noise import noise

CPU = torch.device("cpu")
CHANNELS = 16


def drawn(seed: int = 0, frames: range = range(4, 8), rows: range = range(64),
          columns: range = range(96)) -> torch.Tensor:  # fmt: skip
    return noise(seed, frames, CHANNELS, rows, columns, CPU)


def test_a_part_is_the_part_of_the_whole() -> None:
    whole = drawn()
    part = drawn(frames=range(6, 7), rows=range(5, 40), columns=range(17, 96))
    assert torch.equal(part, whole[:, :, 2:3, 5:40, 17:])


def test_it_is_normal() -> None:
    """Moments and tails of 393,216 values within five times what chance does."""
    values = drawn().flatten()
    moments = {1: (0.0, 1.0), 2: (1.0, 2.0), 3: (0.0, 15.0), 4: (3.0, 96.0)}
    for power, (mean, variance) in moments.items():
        off = float((values**power).mean()) - mean
        assert abs(off) < 5 * (variance / len(values)) ** 0.5, power
    levels = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0], dtype=torch.float64)
    share = (values[:, None] < levels).double().mean(dim=0)
    expected = torch.special.ndtr(levels)
    chance = (expected * (1 - expected) / len(values)).sqrt()
    assert ((share - expected).abs() < 5 * chance).all()


def test_neighbours_know_nothing_of_each_other() -> None:
    values = drawn()
    for axis in range(1, 5):
        for apart in (1, 2, 8):
            a = values.narrow(axis, 0, values.shape[axis] - min(apart, values.shape[axis] - 1))
            b = values.narrow(axis, values.shape[axis] - a.shape[axis], a.shape[axis])
            assert abs(float((a * b).mean())) * a.numel() ** 0.5 < 5, (axis, apart)


def test_seeds_give_other_noise() -> None:
    made = [drawn(seed) for seed in (0, 1, 1 << 40, -1)]
    for i, a in enumerate(made):
        for b in made[:i]:
            assert abs(float((a * b).mean())) * a.numel() ** 0.5 < 5


def test_it_stays_what_it_is() -> None:
    """Films that were begun go on with another version of this program."""
    values = noise(7, range(1000, 1001), 2, range(3, 5), range(2), CPU).flatten()
    assert [round(float(v), 6) for v in values] == EXPECTED


EXPECTED = [0.261166, 0.096204, 0.654639, -0.205579, 0.591472, -0.015725, -0.098679, 0.782369]
