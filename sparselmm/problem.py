"""The problem an optimiser sees: theta in, value, exact score and average information out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparselmm._types import Array
from sparselmm.beside import (
    Neighbour,
    Neighbourhood,
    neighbour,
    neighbourhood,
    sharpen,
    solve_beside,
)
from sparselmm.covariance.model import CovarianceModel
from sparselmm.criterion import (
    Solution,
    average_information,
    gradient_matrices,
    level_sums,
    solve_at,
)
from sparselmm.curvature import exact_hessian, rest_order
from sparselmm.gram import Gram
from sparselmm.linalg import spectrum
from sparselmm.systems.base import System

DEVIANCE_ERROR = 3e-7  # of an evaluation without a factorisation
DOUBTFUL = 0.2  # share of the error of the score that may pass, from which on one factor is looked at closer
FEW, FEW_SOLVES = 500, 80  # coefficients in all, and of all factors but the largest


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Value, score and information at one theta.

    Attributes
    ----------
    theta : ndarray, shape (n_theta,)
        Internal coordinates.
    solution : Solution
    E : list of ndarray, shape (s_j, s_j)
        Score matrices.
    score : ndarray, shape (n_theta,)
        e_a = <E, S_a>.
    information : ndarray, shape (n_theta, n_theta)
        2 AI in relative coordinates.
    B : sequence of ndarray, shape (s_j, s_j)
        Sums of the diagonal blocks of A^-1.
    """

    theta: Array
    solution: Solution
    E: list[Array]
    score: Array
    information: Array
    B: Sequence[Array]

    @property
    def deviance(self) -> float:
        """The criterion."""
        return self.solution.deviance

    def score_norm(self) -> float:
        """Length of the score in standard errors: root of e'(2 AI)^-1 e."""
        return float(np.sqrt(max(self.score @ spectrum(self.information).solve(self.score), 0.0)))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is minimised.

    Attributes
    ----------
    gram : Gram
    system : System
    model : CovarianceModel
    reml : bool
    """

    gram: Gram
    system: System
    model: CovarianceModel
    reml: bool

    def solve(self, theta: Array) -> Solution:
        """Value and profiled estimates only."""
        return solve_at(self.gram, self.system, self.model.factors(theta), reml=self.reml)

    def solve_beside(
        self, at: Solution, theta: Array, deviance: float | None, guess: Solution
    ) -> Solution:
        """The same near a solution: without another factorisation where the deviance is known and theta close."""
        if deviance is not None:
            beside = solve_beside(self.gram, at, self.model.factors(theta), deviance, guess)
            if beside is not None:
                return beside
        return self.solve(theta)

    def evaluate(
        self, theta: Array, solution: Solution | None = None, information: Array | None = None
    ) -> Evaluation:
        """Value, score and average information, from what is at hand of the solution and the information at theta."""
        solution = self.solve(theta) if solution is None else solution
        return self._evaluation(theta, solution, solution.factored.inverse_sums(), information)

    def neighbourhood(self, at: Evaluation) -> Neighbourhood:
        """What `evaluate_beside` needs of an evaluation with its factor."""
        return neighbourhood(self.gram, at.solution, at.B)

    def evaluate_beside(
        self, around: Neighbourhood, theta: Array, near: Evaluation, score_error: float
    ) -> Evaluation | None:
        """Value and score without another factorisation; None where they are not right enough.

        Parameters
        ----------
        near : Evaluation
            The closest there is, whose information serves.
        score_error : float
            In standard errors, that may pass.
        """
        T = self.model.factors(theta)
        found = neighbour(around, T, near.solution)
        if found is None:
            return None
        errors = self._score_errors(found, near)
        if sharpen(around, np.flatnonzero(errors > DOUBTFUL * score_error)):
            found = neighbour(around, T, found.solution) or found
            errors = self._score_errors(found, near)
        if found.error > DEVIANCE_ERROR or not np.linalg.norm(errors) < score_error:
            return None
        return self._evaluation(theta, found.solution, found.B, near.information)

    def _score_errors(self, found: Neighbour, near: Evaluation) -> Array:
        """Errors of the score by factors, in standard errors; those of sampling are independent."""
        squares = np.zeros(len(found.B))
        variances = np.diag(np.linalg.pinv(near.information, hermitian=True))
        for (j, S), variance in zip(self.model.directions, variances, strict=True):
            squares[j] += variance * np.vdot(S, S)
        return np.sqrt(squares) * found.B_errors

    def _evaluation(
        self, theta: Array, solution: Solution, B: Sequence[Array], information: Array | None
    ) -> Evaluation:
        sums = level_sums(self.gram, solution)
        E = gradient_matrices(self.gram, solution, sums, B)
        if information is None:
            average = average_information(self.gram, solution, self.model.directions, sums)
            information = 2.0 * average
        return Evaluation(theta, solution, E, self.model.gradient(E), information, B)

    def exact_is_cheap(self) -> bool:
        """Whether an exact Hessian costs no more than about an evaluation."""
        return self.gram.q <= FEW and rest_order(self.gram.shapes) <= FEW_SOLVES

    def exact(self, at: Evaluation) -> Evaluation:
        """The evaluation with the exact Hessian (in relative coordinates) in the place of the average information."""
        hessian = exact_hessian(self.gram, at.solution, at.information, self.model.directions)
        return replace(at, information=hessian)

    def score(self, theta: Array) -> Array:
        """d deviance / d theta, exact; the pivots of T must not be zero."""
        solution = self.solve(theta)
        e = self.model.gradient(gradient_matrices(self.gram, solution))
        return np.linalg.solve(self.model.jacobian(solution.T).T, self.model.step_map.T @ e)
