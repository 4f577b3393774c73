"""The lowest REML criterion that any package has reached on each problem at full size.

`python -m benchmarks.compare --record-best` lowers the figures in `best_known.json`. They hold for
one data set: when a simulator changes, the sum of the response no longer fits and they are void.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from sparselmm.datasets import Problem

PATH = Path(__file__).parent / "best_known.json"


def best_known(name: str, problem: Problem, path: Path = PATH) -> float:
    """The lowest REML criterion on record for exactly these data; NaN where there is none."""
    entry = load(path).get(name)
    return entry["deviance"] if entry and entry["sum_y"] == sum_y(problem) else math.nan


def record_best(name: str, problem: Problem, deviance: float, path: Path = PATH) -> None:
    """Keep a REML criterion that is lower than the one on record, or the first for these data."""
    if not deviance >= best_known(name, problem, path):
        entry = {"deviance": deviance, "sum_y": sum_y(problem)}
        path.write_text(json.dumps(load(path) | {name: entry}, indent=1, sort_keys=True) + "\n")


def load(path: Path) -> dict[str, dict[str, float]]:
    return json.loads(path.read_text()) if path.exists() else {}


def sum_y(problem: Problem) -> float:
    """The exactly rounded sum of the response, which tells data sets apart."""
    return math.fsum(problem.data[problem.formula.split("~")[0].strip()])
