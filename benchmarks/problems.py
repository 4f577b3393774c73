"""The named problems of the benchmarks: those of the library, and sizes that slower peers reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparselmm.datasets import Problem, load_dataset, problems, simulate_design
from sparselmm.datasets.groupings import blocks, crossed


@dataclass(frozen=True, slots=True)
class Named:
    """A problem, its shape, and the scale at which every package fits it in about a second."""

    shape: str
    make: Callable[[float], Problem]
    small: float


def sleepstudy(scale: float = 1.0) -> Problem:  # noqa: ARG001
    """180 rows, 18 subjects; too small to shrink."""
    formula = "Reaction ~ 1 + Days + (1 + Days | Subject)"
    return Problem(load_dataset("sleepstudy"), formula)


def nested_20k(scale: float = 1.0) -> Problem:
    """20,000 rows in 2,000 groups with a random slope."""
    return one_factor(20_000, 2_000, scale, slope=True, seed=30)


def groups_125k(scale: float = 1.0) -> Problem:
    """500,000 rows in 125,000 groups with a random intercept."""
    return one_factor(500_000, 125_000, scale, slope=False, seed=31)


def crossed_10k(scale: float = 1.0) -> Problem:
    """10,000 rows, 500 x 300 levels crossed."""
    return simulate_design(
        max(200, round(10_000 * scale)),
        {"a": crossed(max(10, round(500 * scale))), "b": crossed(max(8, round(300 * scale)))},
        np.random.default_rng(32),
        theta={"a": [0.8], "b": [0.5]},
        beta=[1.0, 0.5],
    )


def one_factor(n: int, groups: int, scale: float, *, slope: bool, seed: int) -> Problem:
    """Groups of random sizes, one predictor."""
    return simulate_design(
        max(60, round(n * scale)),
        {"g": blocks(max(12, round(groups * scale)))},
        np.random.default_rng(seed),
        slopes={"g": ["x"]} if slope else {},
        theta={"g": [0.8, 0.2, 0.5] if slope else [0.8]},
        beta=[1.0, 0.5],
    )


PROBLEMS: dict[str, Named] = {
    "sleepstudy": Named("nested", sleepstudy, 1.0),
    "nested_20k": Named("nested", nested_20k, 0.02),
    "nested_500k": Named("nested", problems.nested_500k, 0.002),
    "groups_125k": Named("nested", groups_125k, 0.002),
    "crossed_10k": Named("crossed", crossed_10k, 0.05),
    "crossed_1m": Named("crossed", problems.crossed_1m, 0.002),
    "insteval": Named("crossed", problems.insteval, 0.02),
    "kb07": Named("crossed-vector", problems.kb07, 0.3),
    "crossed_vector": Named("crossed-vector", problems.crossed_vector, 0.01),
    "power_law": Named("power-law", problems.power_law, 0.002),
    "five_factors": Named("many-factor", problems.five_factors, 0.02),
}
