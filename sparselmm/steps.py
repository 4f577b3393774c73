"""Where to go next: one proposed theta from one evaluation.

Two kinds of step, both in coordinates relative to the present T:

newton       T (I + K), with the Hessian of `sparselmm.covariance.model` and a learned correction;
covariance   T (I + Delta)^(1/2) with Delta = -(2 AI)^-1 e: Newton in the covariance scale. It is taken where the
             first Hessian has negative curvature, which is so where a variance has started too small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.covariance.model import CovarianceModel
from sparselmm.linalg import cholesky_lower, solve_lower, spectrum
from sparselmm.problem import Evaluation

LARGEST_STEP = 2.0  # of T, relative to its own size plus the variance that one level can show
LEAST_SHRINK = 0.01  # of a pivot (newton) or an eigenvalue of Sigma (covariance) in one step


@dataclass(frozen=True, slots=True)
class Scale:
    """What is small and what is large, per theta.

    Attributes
    ----------
    floor : ndarray, shape (n_theta,)
        Smallest value of the diagonal entries of T; -inf for the others.
    noise : tuple of ndarray, shape (s_j, s_j)
        Diagonal covariance that one level's data can show, relative to sigma².
    """

    floor: Array
    noise: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A proposal.

    Attributes
    ----------
    theta : ndarray, shape (n_theta,)
    kind : str
        ``"newton"`` or ``"covariance"``.
    gain : float
        Predicted fall of the deviance.
    """

    theta: Array
    kind: str
    gain: float


def propose(model: CovarianceModel, at: Evaluation, correction: Array, scale: Scale) -> Step:
    """The next theta.

    Parameters
    ----------
    correction : ndarray, shape (n_theta, n_theta)
        What to add to the structured Hessian, in the coordinates of theta.
    """
    if correction.any():
        H = at.hessian + at.jacobian.T @ correction @ at.jacobian
        shape = spectrum(H)
        if shape.is_definite():
            return _newton(model, at, H, -shape.solve(at.gradient), scale)
    if at.hessian_spectrum.is_definite():
        return _newton(model, at, at.hessian, -at.hessian_spectrum.solve(at.gradient), scale)
    return _covariance(model, at, scale)


def _newton(model: CovarianceModel, at: Evaluation, H: Array, kappa: Array, scale: Scale) -> Step:
    move = at.jacobian @ kappa
    move *= _within_reach(model, at.solution.T, move, scale)
    least = np.maximum(scale.floor, LEAST_SHRINK * at.theta)
    theta = np.where(model.pivots, np.maximum(at.theta + move, least), at.theta + move)
    taken = np.linalg.solve(at.jacobian, theta - at.theta)
    return Step(theta, "newton", float(-(at.gradient @ taken + 0.5 * taken @ H @ taken)))


def _covariance(model: CovarianceModel, at: Evaluation, scale: Scale) -> Step:
    coordinates = -at.information_spectrum.solve(at.score)
    theta = at.theta
    for _ in range(30):
        theta = _stretched(model, at.solution.T, coordinates)
        if _within_reach(model, at.solution.T, theta - at.theta, scale) == 1.0:
            break
        coordinates = 0.5 * coordinates
    gain = -(at.score @ coordinates + 0.5 * coordinates @ at.information @ coordinates)
    return Step(np.maximum(theta, scale.floor), "covariance", float(gain))


def _stretched(model: CovarianceModel, T: tuple[Array, ...], coordinates: Array) -> Array:
    """theta of T (I + Delta) T', eigenvalues of I + Delta bounded below."""
    change = model.relative_change(coordinates)
    factors = []
    for t, delta in zip(T, change, strict=True):
        values, vectors = np.linalg.eigh(np.eye(len(t)) + delta)
        bounded = (vectors * np.maximum(values, LEAST_SHRINK)) @ vectors.T
        factors.append(t @ np.linalg.cholesky(bounded))
    return model.theta(factors)


def _within_reach(model: CovarianceModel, T: tuple[Array, ...], move: Array, scale: Scale) -> float:
    """Share of a move of theta that keeps the change of T below `LARGEST_STEP`."""
    return LARGEST_STEP / max(relative_size(model, T, move, scale), LARGEST_STEP)


def relative_size(model: CovarianceModel, T: tuple[Array, ...], move: Array, scale: Scale) -> float:
    """Largest change of a factor, relative to itself plus what one level's data can show."""
    size = 0.0
    for t, noise, dT in zip(T, scale.noise, model.factors(move), strict=True):
        relative = solve_lower(cholesky_lower(t @ t.T + noise), dT)
        size = max(size, float(np.sqrt((relative**2).sum())))
    return size


def expectation_maximisation(model: CovarianceModel, at: Evaluation, levels: list[int]) -> Array:
    """theta after one EM step, which never raises the deviance.

    Sigma_j becomes T_j (U_j'U_j / s2 + B_j) T_j' / l_j, that is T_j (I - E_j / l_j) T_j', in the template's form.
    """
    coordinates = np.empty(model.n_theta)
    for part in model.parts:
        E = model.block(at.E, part)
        coordinates[part.theta] = part.template.coordinates(-E / levels[part.factor])
    return _stretched(model, at.solution.T, coordinates)
