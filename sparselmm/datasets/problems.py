"""The designs that examples, tests and benchmarks refer to by name.

Each is a function of ``scale``: 1 is the size its docstring states; less shrinks rows and levels
together, so that the shape stays. Simulated ones are the same at each call unless a generator is
given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparselmm.datasets.bundled import load_dataset
from sparselmm.datasets.groupings import balanced, blocks, crossed, cycled, member_of
from sparselmm.datasets.simulate import Problem, SimulatedDesign, simulate_design

__all__ = [
    "PROBLEMS",
    "crossed_1m",
    "crossed_vector",
    "five_factors",
    "insteval",
    "kb07",
    "nested_500k",
    "power_law",
]

Rng = np.random.Generator


def insteval(scale: float = 1.0) -> Problem:
    """Real lecture ratings: 73,421 rows, 2,972 students, 1,128 lecturers, 14 departments.

    A smaller scale keeps the first students.
    """
    data = load_dataset("insteval")
    kept = data["s"].cat.codes < _at_least(2, scale * data["s"].cat.categories.size)
    data = data.loc[kept].reset_index(drop=True)
    for name in ("s", "d", "dept"):
        data[name] = data[name].cat.remove_unused_categories()
    return Problem(data, "y ~ 1 + (1 | s) + (1 | d) + (1 | dept)")


def crossed_1m(scale: float = 1.0, rng: Rng | None = None) -> SimulatedDesign:
    """Two crossed scalar factors: 1,000,000 rows, 50,000 x 5,000 levels."""
    return simulate_design(
        _at_least(40, 1_000_000 * scale),
        {"a": crossed(_at_least(4, 50_000 * scale)), "b": crossed(_at_least(3, 5_000 * scale))},
        rng or np.random.default_rng(20),
        theta={"a": [0.8], "b": [0.5]},
        beta=[1.0, 0.5],
    )


def crossed_vector(scale: float = 1.0, rng: Rng | None = None) -> SimulatedDesign:
    """Three crossed factors with random slopes: 130,000 rows, 9,452 x 344 x 68 levels, 9 theta."""
    return simulate_design(
        _at_least(400, 130_000 * scale),
        {
            "g": crossed(_at_least(20, 9_452 * scale)),
            "h": crossed(_at_least(12, 344 * scale)),
            "i": crossed(_at_least(8, 68 * scale)),
        },
        rng or np.random.default_rng(21),
        slopes={"g": ["x"], "h": ["x"], "i": ["x"]},
        theta={"g": [0.6, 0.1, 0.3], "h": [0.5, -0.1, 0.2], "i": [0.4, 0.05, 0.25]},
        beta=[1.0, 0.5],
    )


def nested_500k(scale: float = 1.0, rng: Rng | None = None) -> SimulatedDesign:
    """Correlated random slope in 125,000 groups of uneven size: 500,000 rows."""
    return simulate_design(
        _at_least(40, 500_000 * scale),
        {"g": blocks(_at_least(10, 125_000 * scale))},
        rng or np.random.default_rng(22),
        slopes={"g": ["x"]},
        theta={"g": [0.8, 0.2, 0.5]},
        beta=[1.0, 0.5],
    )


def kb07(scale: float = 1.0, rng: Rng | None = None) -> SimulatedDesign:
    """Maximal model of a 2 x 2 experiment: 56 subjects x 32 items, 20 theta, 1,792 rows.

    The shape of the data of Kronmueller and Barr (2007). Both conditions vary within every subject
    and every item.
    """
    subjects, items = _at_least(12, 56 * scale), _at_least(8, 32 * scale)
    s, i = np.divmod(np.arange(subjects * items), items)
    triangle = [0.8, -0.1, -0.1, 0.1, 0.4, 0.05, -0.05, 0.4, 0.05, 0.3]
    return simulate_design(
        subjects * items,
        {"s": balanced(subjects), "i": cycled(items)},
        rng or np.random.default_rng(23),
        fixed=["a", "b", "a:b"],
        slopes={"s": ["a", "b", "a:b"], "i": ["a", "b", "a:b"]},
        columns={"a": _sign(s + i), "b": _sign(s // 2 + i // 2)},
        theta={"s": triangle, "i": triangle},
        beta=[2.0, -0.1, -0.3, 0.1],
    )


def five_factors(scale: float = 1.0, rng: Rng | None = None) -> SimulatedDesign:
    """Five partially crossed and nested factors: 60,000 ratings.

    8,000 students in 600 home classes, 15 % of the ratings made in another class; the classes lie
    in 60 schools; 300 raters and 40 items are crossed with everything.
    """
    return simulate_design(
        _at_least(600, 60_000 * scale),
        {
            "student": crossed(_at_least(80, 8_000 * scale)),
            "classroom": member_of("student", _at_least(24, 600 * scale), away=0.15),
            "school": member_of("classroom", _at_least(6, 60 * scale)),
            "rater": crossed(_at_least(12, 300 * scale)),
            "item": crossed(_at_least(8, 40 * scale)),
        },
        rng or np.random.default_rng(24),
        theta={
            "student": [0.7],
            "classroom": [0.4],
            "school": [0.3],
            "rater": [0.35],
            "item": [0.5],
        },
        beta=[1.0, 0.5],
    )


def power_law(scale: float = 1.0, rng: Rng | None = None) -> SimulatedDesign:
    """Two crossed factors of skewed popularity: 1,000,000 rows, 6,040 x 3,706 levels.

    Rows and levels of MovieLens 1M, popularities falling as a power of the rank.
    """
    return simulate_design(
        _at_least(60, 1_000_000 * scale),
        {
            "user": crossed(_at_least(6, 6_040 * scale), skew=0.6),
            "movie": crossed(_at_least(4, 3_706 * scale), skew=0.9),
        },
        rng or np.random.default_rng(25),
        theta={"user": [0.5], "movie": [0.6]},
        beta=[3.5, 0.2],
    )


PROBLEMS: dict[str, Callable[[float], Problem]] = {
    problem.__name__: problem
    for problem in (
        insteval,
        crossed_1m,
        crossed_vector,
        nested_500k,
        kb07,
        five_factors,
        power_law,
    )
}


def _at_least(least: int, size: float) -> int:
    """A scaled size that stays large enough for the model to be identified."""
    return max(least, round(size))


def _sign(index: np.ndarray) -> np.ndarray:
    """Minus one for even, one for odd."""
    return 2.0 * (index % 2) - 1.0
