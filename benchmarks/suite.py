"""asv suite: time, memory, evaluations and distance to the optimum on the named problems.

    cd benchmarks && asv run --python=same --quick          this checkout, once
    cd benchmarks && asv continuous main HEAD               what a change does

Every class fits a scaled-down copy first, so that compilation is never timed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import sparselmm as slm
from benchmarks.best import best_known
from benchmarks.problems import PROBLEMS
from sparselmm.criterion import gradient_matrices, solve_at
from sparselmm.gram import Gram


class OnProblems:
    """What the classes below share; `scale` 1 is the full size, None the scale of the tests."""

    params: ClassVar = list(PROBLEMS)
    param_names: ClassVar = ["problem"]
    timeout = 600
    scale: float | None = 1.0

    def setup(self, name: str) -> None:
        named = PROBLEMS[name]
        small = named.make(named.small)
        slm.lmm(small.formula, small.data)
        self.problem = small if self.scale is None else named.make(self.scale)


class Fit(OnProblems):
    """The whole call."""

    def time_fit(self, name: str) -> None:
        slm.lmm(self.problem.formula, self.problem.data)

    def peakmem_fit(self, name: str) -> None:
        slm.lmm(self.problem.formula, self.problem.data)

    def track_evaluations(self, name: str) -> int:
        return slm.lmm(self.problem.formula, self.problem.data).optimum.evaluations

    def track_deviance_gap(self, name: str) -> float:
        """REML criterion above the best one any package is known to have reached."""
        problem = self.problem
        return slm.lmm(problem.formula, problem.data).deviance - best_known(name, problem)

    track_evaluations.unit = "evaluations"
    track_deviance_gap.unit = "deviance"


class Stages(OnProblems):
    """The steps of a fit, each on the results of the step before."""

    def setup(self, name: str) -> None:
        super().setup(name)
        self.record = fit_record(slm.lmm(self.problem.formula, self.problem.data))

    def time_design(self, name: str) -> None:
        slm.LinearMixedModel(self.problem.formula, self.problem.data)

    def time_gram(self, name: str) -> None:
        Gram.from_design(self.record.design, self.record.spec.terms)

    def time_value(self, name: str) -> None:
        self.solve()

    def time_value_and_score(self, name: str) -> None:
        gradient_matrices(self.record.gram, self.solve())

    def solve(self) -> Any:
        """One factorisation at T = I, in internal coordinates."""
        record = self.record
        T = [[[float(i == k) for i in range(s)] for k in range(s)] for _, s in record.gram.shapes]
        return solve_at(record.gram, record.system, T, reml=True)


def fit_record(results: Any) -> Any:
    """The frozen record (spec, design, gram, system) behind the results."""
    return results.fit
