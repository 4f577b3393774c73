"""The problem an optimiser sees: theta in, value, exact score and average information out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.covariance.model import CovarianceModel
from sparselmm.criterion import Solution, average_information, gradient_matrices, solve_at
from sparselmm.gram import Gram
from sparselmm.systems.base import System


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Value, score and information at one theta.

    Attributes
    ----------
    theta : ndarray, shape (n_theta,)
    solution : Solution
    E : list of ndarray, shape (s_j, s_j)
        Score matrices.
    score : ndarray, shape (n_theta,)
        e_a = <E, S_a>.
    information : ndarray, shape (n_theta, n_theta)
        2 AI in relative coordinates.
    """

    theta: Array
    solution: Solution
    E: list[Array]
    score: Array
    information: Array

    @property
    def deviance(self) -> float:
        """The criterion."""
        return self.solution.deviance

    def score_norm(self) -> float:
        """Root of e'(2 AI)^-1 e."""
        return float(np.sqrt(max(self.score @ solve_psd(self.information, self.score), 0.0)))


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

    def evaluate(self, theta: Array) -> Evaluation:
        """Value, score and average information."""
        solution = self.solve(theta)
        E = gradient_matrices(self.gram, solution)
        information = 2.0 * average_information(self.gram, solution, self.model.directions)
        return Evaluation(theta, solution, E, self.model.gradient(E), information)

    def score(self, theta: Array) -> Array:
        """d deviance / d theta, exact."""
        solution = self.solve(theta)
        return theta_score(self.model, solution.T, gradient_matrices(self.gram, solution))


def theta_score(model: CovarianceModel, T: tuple[Array, ...], E: list[Array]) -> Array:
    """d d / d T = 2 T^-T E, read at theta's entries; T must be regular."""
    out = np.empty(model.n_theta)
    for part in model.parts:
        slope = 2.0 * np.linalg.solve(model.block(T, part).T, model.block(E, part))
        out[part.theta] = np.einsum("iab,ab->i", part.template.factor_basis, slope)
    return out


def solve_psd(H: Array, g: Array) -> Array:
    """H^+ g for a positive semidefinite H, after scaling it to unit diagonal."""
    scale = np.sqrt(np.maximum(np.diag(H), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(H / np.outer(scale, scale))
    keep = values > 1e-10
    V = vectors[:, keep]
    return V @ ((V.T @ (g / scale)) / values[keep]) / scale


def is_definite(H: Array) -> bool:
    """Whether H has no negative curvature beyond rounding, after scaling it to unit diagonal."""
    diagonal = np.diag(H)
    if (diagonal <= 0.0).any():
        return False
    scale = np.sqrt(diagonal)
    return bool(np.linalg.eigvalsh(H / np.outer(scale, scale))[0] > -1e-8)
