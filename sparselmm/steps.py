"""Where to go next: one proposed theta from one evaluation, within a trust region.

The quadratic model of the deviance (the structured Hessian of `sparselmm.covariance.chart` plus what
was learned) is minimised over moves dT_p = M X with |X| <= radius, X in the template's form and
M M' = Sigma + noise: lengths are relative to the covariance itself or, where that is small, to what
one level's data can show. Negative curvature, which means a variance that started too small, is
followed to the edge (Moré & Sorensen 1983, SIAM J. Sci. Stat. Comput. 4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparselmm._types import Array
from sparselmm.covariance.chart import Chart
from sparselmm.covariance.model import CovarianceModel
from sparselmm.linalg import cholesky_lower, solve_lower, spectrum
from sparselmm.problem import Evaluation

FLOOR = 1e-9  # pivot² of T, in units of the variance that one level's data can show
SHORT_STEP = 0.1  # after which two scores are to be believed
TOLD = 0.3  # cosine between step and what the Hessian missed, from which on a rank-one update is trusted
BOUNDS, BOUNDS_SHORT = (-0.7, 1.5), (-0.9, 3.0)  # of what is learned, relative to the Hessian
EXTREME = 1e-70  # scale of a Hessian that is none
FLAT = 1e-9  # curvature, relative to the largest, below which a direction counts as flat


@dataclass(frozen=True, slots=True)
class Scale:
    """What is small and what is large, per theta.

    Attributes
    ----------
    floor : ndarray, shape (n_theta,)
        Smallest size of the diagonal entries of T; -inf for the others.
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
        In the chart of the model it comes from.
    kind : str
        ``"newton"``, or ``"edge"`` where the trust region cut it.
    gain : float
        Predicted fall of the deviance.
    size : float
        Its length |X|.
    """

    theta: Array
    kind: str
    gain: float
    size: float


@dataclass(frozen=True, slots=True)
class Local:
    """The quadratic model around one evaluation.

    Attributes
    ----------
    chart : Chart
    theta, theta_gradient : ndarray, shape (n_theta,)
        Where it stands and the score there, in the chart.
    structured : ndarray, shape (n_theta, n_theta)
        The structured Hessian in the chart.
    floors : ndarray, shape (n_theta,)
        Smallest size of the pivots; -inf for the other entries.
    map : ndarray, shape (n_theta, n_theta)
        d theta / d x.
    gradient : ndarray, shape (n_theta,)
        In the coordinates x.
    hessian : ndarray, shape (n_theta, n_theta)
        In the coordinates x, with what was learned.
    values, vectors : ndarray
        Its spectrum.
    """

    chart: Chart
    theta: Array
    theta_gradient: Array
    structured: Array
    floors: Array
    map: Array
    gradient: Array
    hessian: Array
    values: Array
    vectors: Array

    def gain(self, x: Array) -> float:
        """Predicted fall of the deviance."""
        return float(-(self.gradient @ x + 0.5 * x @ self.hessian @ x))


def local_model(chart: Chart, at: Evaluation, scale: Scale) -> Local:
    """The structured model around an evaluation."""
    T = at.solution.T
    theta, rotations = chart.theta(T)
    g, H = chart.quadratic(T, rotations, at.E, at.information)
    map_ = chart.metric(T, scale.noise)
    hessian = map_.T @ H @ map_
    floors = pivot_floors(chart, scale)
    return Local(chart, theta, g, H, floors, map_, map_.T @ g, hessian, *np.linalg.eigh(hessian))


def corrected(local: Local, correction: Array) -> Local:
    """The model with a correction (in theta's coordinates), unless that alone makes it indefinite."""
    if not correction.any():
        return local
    hessian = local.hessian + local.map.T @ correction @ local.map
    values, vectors = np.linalg.eigh(hessian)
    if values[0] < -FLAT * values[-1]:
        return local
    return replace(local, hessian=hessian, values=values, vectors=vectors)


def propose(local: Local, radius: float) -> Step:
    """The next theta: the model's minimum within the radius, pivots kept away from zero.

    A pivot may change its sign on the way: T and T with a column negated are the same model.
    """
    x, kind = constrained_minimum(local, radius)
    theta = above_floor(local.theta + local.map @ x, local.floors)
    taken = np.linalg.solve(local.map, theta - local.theta)
    return Step(theta, kind, local.gain(taken), float(np.sqrt(taken @ taken)))


def above_floor(theta: Array, floors: Array) -> Array:
    """theta with the pivots at least the floor in size."""
    least = np.copysign(np.maximum(np.abs(theta), floors), theta)
    return np.where(floors > 0.0, least, theta)


def pivot_floors(chart: Chart, scale: Scale) -> Array:
    """Smallest size of the pivots in the order of a chart; -inf for the other entries of theta."""
    floors = np.full(chart.model.n_theta, -np.inf)
    for part, order in zip(chart.model.parts, chart.orders, strict=True):
        noise = chart.model.block(scale.noise, part).diagonal()[order]
        own = part.template.theta(np.diag(np.sqrt(FLOOR * noise)))
        floors[part.theta] = np.where(chart.model.pivots[part.theta], own, -np.inf)
    return floors


def constrained_minimum(local: Local, radius: float) -> tuple[Array, str]:
    """Minimum of the quadratic model over |x| <= radius, and whether the edge cut it.

    Returns
    -------
    x : ndarray, shape (m,)
    kind : str
        ``"newton"`` or ``"edge"``.
    """
    values, along = local.values, local.vectors.T @ local.gradient
    flat = FLAT * max(abs(values[0]), abs(values[-1]))
    if values[0] > -flat:
        usable = np.maximum(values, flat)
        x = -along / usable
        if x @ x <= radius**2:
            return local.vectors @ x, "newton"
    low = max(0.0, -values[0]) + flat
    high = low + np.sqrt(along @ along) / radius + flat
    for _ in range(60):
        middle = np.sqrt(low * high)
        x = along / (values + middle)
        low, high = (middle, high) if x @ x > radius**2 else (low, middle)
        if high < low * (1.0 + 1e-3):
            break
    x = -along / (values + high)
    missing = radius**2 - x @ x
    if values[0] < -flat and missing > 0.0:
        x[0] = np.copysign(np.sqrt(x[0] ** 2 + missing), x[0])
    return local.vectors @ x, "edge"


def relative_size(model: CovarianceModel, T: tuple[Array, ...], move: Array, scale: Scale) -> float:
    """Largest change of a factor, relative to itself plus what one level's data can show."""
    size = 0.0
    for t, noise, dT in zip(T, scale.noise, model.factors(move), strict=True):
        relative = solve_lower(cholesky_lower(t @ t.T + noise), dT)
        size = max(size, float(np.sqrt((relative**2).sum())))
    return size


def secant_update(structured: Array, correction: Array, step: Array, change: Array) -> Array:
    """Correction with which the Hessian explains the last change of the score, bounded relative to the structured one.

    By a symmetric rank-one update, or, where that would divide by next to nothing, by the least change relative to the
    structured Hessian (Dennis, Gay & Welsch 1981, ACM Trans. Math. Softw. 7, section 3).

    A long step tells little: what goes beyond the bounds is then forgotten with all before. After a short one the
    scores are right, and it is cut to wider bounds; forgetting would leave a slow linear convergence.

    Parameters
    ----------
    structured, correction : ndarray, shape (m, m)
        The Hessian is taken to be their sum.
    step, change : ndarray, shape (m,)
        Change of the parameters, in units of the trust region, and of the score.
    """
    shape = spectrum(structured)
    if not EXTREME < shape.scale.max() < 1.0 / EXTREME:  # nothing to be relative to
        return np.zeros_like(correction)
    root = np.sqrt(np.maximum(shape.values, 1e-10))
    scale = np.maximum(shape.scale, 1e-12 * shape.scale.max())
    whiten, color = shape.vectors / root / scale[:, None], (shape.vectors * root).T * scale
    short = step @ step < SHORT_STEP**2
    miss, x = whiten.T @ (change - (structured + correction) @ step), color @ step
    along, length = miss @ x, x @ x
    if not length > 0.0:
        return correction
    updated = whiten.T @ correction @ whiten
    if along**2 > TOLD**2 * (miss @ miss) * length:
        updated += np.multiply.outer(miss, miss) / along
    else:
        mixed = np.multiply.outer(miss, x) / length
        updated += mixed + mixed.T - np.multiply.outer(x, x) * along / length**2
    values, vectors = np.linalg.eigh(updated)
    least, most = BOUNDS_SHORT if short else BOUNDS
    if not short and not (least < values[0] and values[-1] < most):
        return np.zeros_like(correction)
    return color.T @ ((vectors * np.clip(values, least, most)) @ vectors.T) @ color
