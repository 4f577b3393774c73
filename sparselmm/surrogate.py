"""The quadratic models of one descent: structured, taught by the scores, in the end exact.

The average information and the curvature of T T' make the first models; what they miss is learned from the scores by
secant updates (structured quasi-Newton, after Dennis, Gay & Welsch 1981). Where few levels make them miss
much, that is too slow: a run that is not soon at its end goes on with exact Hessians (`sparselmm.curvature`).
"""

from __future__ import annotations

import numpy as np

from sparselmm.covariance.chart import choose_chart
from sparselmm.problem import Evaluation, Problem
from sparselmm.steps import Local, Scale, corrected, local_model, secant_update

LEARNING_RANGE = 0.3  # relative change of T over which two scores still tell about the Hessian
SOON = 4  # thetas tried, by which most runs end; after them a cheap exact Hessian pays for itself
CLOSE = 3.0  # promised gain; farther off the deviance is not bent as at the optimum


class Surrogate:
    """The model of the last accepted point, and what earlier ones taught.

    Parameters
    ----------
    problem : Problem
    scale : Scale
    """

    def __init__(self, problem: Problem, scale: Scale) -> None:
        self.problem, self.scale = problem, scale
        m = problem.model.n_theta
        self.correction = np.zeros((m, m))
        self.local: Local | None = None
        self.exact = False

    def at(self, at: Evaluation) -> Local:
        """The model of an accepted point, taught by the one before it."""
        before = self.local
        present = None if before is None else before.chart
        chart = choose_chart(self.problem.model, at.solution.T, self.scale.noise, present)
        if self.exact:
            self.local = local_model(chart, self.problem.exact(at), self.scale)
            return self.local
        local = local_model(chart, at, self.scale)
        if before is not None and chart is present:
            self._learn(before, local)
        else:
            self.correction = np.zeros_like(self.correction)
        self.local = corrected(local, self.correction)
        return self.local

    def becomes_exact(self, tried: int, gain: float) -> bool:
        """Whether it is time to change to exact Hessians, which is then done.

        Parameters
        ----------
        tried : int
            How many thetas the run has tried.
        gain : float
            Fall of the deviance that the present model promises.
        """
        late = not self.exact and gain < CLOSE and tried >= SOON and self.problem.exact_is_cheap()
        self.exact |= late
        return late

    @property
    def is_bent(self) -> bool:
        """Whether the deviance bends downwards in some direction, by the exact Hessian."""
        return self.exact and self.local is not None and self.local.values[0] < 0.0

    def _learn(self, old: Local, new: Local) -> None:
        """Let the two scores of a step correct the structured Hessian."""
        x = np.linalg.solve(old.map, new.theta - old.theta)
        if np.sqrt(x @ x) > LEARNING_RANGE * np.sqrt(len(self.problem.model.parts)):
            return
        inverse = np.linalg.inv(new.map)
        learned = secant_update(
            new.hessian,
            new.map.T @ self.correction @ new.map,
            inverse @ (new.theta - old.theta),
            new.map.T @ (new.theta_gradient - old.theta_gradient),
        )
        self.correction = inverse.T @ learned @ inverse
