"""The deviance before sigma is profiled out, with its derivatives, at one (theta, log sigma²).

    d(theta, tau) = log|A| - sum log w + n log(2 pi) + n tau + r2 exp(-tau),        tau = log sigma²

with the fixed effects at their best, or at their best with a'beta = c. Since r2 is quadratic in beta, one factorisation
at theta serves every tau and every c:

    delta = (a'beta - c) / (a'M^-1 a),    r2_c = r2 + delta² a'M^-1 a,    u_c = u + delta V_X M^-1 a,
    d d / d c = -2 delta / sigma²

In the relative coordinates of `sparselmm.covariance.model` (theta moves as T (I + K)) the gradient has the matrices
E_j = l_j I - B_j - U_j'U_j / sigma², and the Hessian is that of the optimiser before sigma² is profiled out:

    kappa, kappa   N'F N + M,   F_ab = f_a'P f_b / sigma²  (P without the direction a of the fixed effects that is held)
    kappa, tau     N'<U'U, S_a> / sigma²        tau, tau   r2 / sigma²

Both are then taken to theta itself (theta is linear in kappa), where they stay well scaled as pivots of T vanish.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sparselmm._types import Array
from sparselmm.covariance.model import CovarianceModel
from sparselmm.criterion import Solution, average_information, by_levels, inverse_sums, solve_at
from sparselmm.fit import Fit
from sparselmm.gram import Gram
from sparselmm.linalg import solve_lower, solve_lower_transposed
from sparselmm.optimise import make_scale
from sparselmm.steps import Scale, relative_size
from sparselmm.systems.base import System

BLIND = (
    1e-3  # rise of the deviance from doubling a column of T below which nothing is learned about it
)


@dataclass(frozen=True, slots=True)
class Surface:
    """The function that is profiled; theta in the user's coordinates.

    Attributes
    ----------
    gram : Gram
    system : System
    model : CovarianceModel
    scale : Scale
        Internal coordinates.
    floor : ndarray, shape (n_theta,)
        Smallest pivots, the user's coordinates; -inf for other entries.
    unit : ndarray, shape (n_theta + 1,)
        Changes of (theta, tau) that the data can just show.
    columns : dict of int to ndarray of int
        Per pivot the entries of theta in its column of T.
    """

    gram: Gram
    system: System
    model: CovarianceModel
    scale: Scale
    floor: Array
    unit: Array
    columns: dict[int, Array]

    def internal(self, theta: Array) -> tuple[Array, ...]:
        """T~ of the user's theta."""
        T = self.model.factors(theta)
        return tuple(self.gram.basis.internal_factor(j, t) for j, t in enumerate(T))

    def reach(self, at: Slice, move: Array) -> float:
        """Size of a move of theta relative to T and what one level's data can show."""
        internal = self.model.theta(self.internal(move))
        return relative_size(self.model, at.solution.T, internal, self.scale)


@dataclass(frozen=True)
class Slice:
    """One factorisation: all that does not depend on tau and c.

    Attributes
    ----------
    theta : ndarray, shape (n_theta,)
    jacobian : ndarray, shape (n_theta, n_theta)
        d theta / d kappa.
    solution : Solution
    B : list of ndarray, shape (s_j, s_j)
    """

    theta: Array
    jacobian: Array
    solution: Solution
    B: list[Array]


@dataclass(frozen=True)
class Point:
    """Value and derivatives at one (theta, tau), and one c where a fixed effect is held.

    Attributes
    ----------
    slice : Slice
    tau : float
    value : float
        The deviance.
    gradient : ndarray, shape (n_theta + 1,)
        In (theta, tau).
    hessian : ndarray, shape (n_theta + 1, n_theta + 1)
        Without what the average information misses.
    information : ndarray, shape (n_theta,)
        Diagonal of F.
    pull : float
        d deviance / d c; NaN when no fixed effect is held.
    stiffness : tuple of (float, ndarray)
        Second derivatives in c, and in c and (theta, tau); None when no fixed effect is held.
    """

    slice: Slice
    tau: float
    value: float
    gradient: Array
    hessian: Array
    information: Array
    pull: float
    stiffness: tuple[float, Array] | None

    @property
    def theta(self) -> Array:
        """Relative covariance parameters, the user's coordinates."""
        return self.slice.theta

    @cached_property
    def x(self) -> Array:
        """(theta, tau)."""
        return np.append(self.slice.theta, self.tau)


@dataclass(frozen=True, slots=True)
class Held:
    """A linear function of the internal fixed effects that is held at c.

    Attributes
    ----------
    direction : ndarray, shape (p,)
        a: the held quantity is ``offset + a'beta``.
    offset : float
    """

    direction: Array
    offset: float


def make_surface(fit: Fit) -> Surface:
    """The ML surface of a fit."""
    problem = fit.prepared.problem(reml=False)
    scale = make_scale(problem)
    basis, model = fit.gram.basis, fit.model
    pivots = np.where(model.pivots, scale.floor, 0.0)
    floors = [
        np.diag(np.diag(t) / np.diag(basis.Rq[j])) for j, t in enumerate(model.factors(pivots))
    ]
    floor = np.where(model.pivots, model.theta(floors), -np.inf)
    noise = [np.tile(np.diag(w)[:, None], len(w)) for w in scale.noise]
    rows = [
        np.abs(np.diag(1.0 / np.diag(R))) @ np.sqrt(w) for R, w in zip(basis.Rq, noise, strict=True)
    ]
    unit = np.append(model.theta(rows), np.sqrt(2.0 / fit.n))
    columns = {}
    for part in model.parts:
        own = np.arange(part.theta.start, part.theta.stop)
        place = part.template.columns
        for i in own[model.pivots[own]]:
            columns[int(i)] = own[(place == place[i - part.theta.start])[: len(own)]]
    return Surface(problem.gram, problem.system, model, scale, floor, unit, columns)


def slice_at(surface: Surface, theta: Array) -> Slice:
    """Factorise at theta (user's coordinates)."""
    T = surface.model.factors(theta)
    internal = tuple(surface.gram.basis.internal_factor(j, t) for j, t in enumerate(T))
    solution = solve_at(surface.gram, surface.system, internal, reml=False)
    return Slice(theta, surface.model.jacobian(T), solution, inverse_sums(surface.gram, solution))


def point_at(
    surface: Surface, cut: Slice, tau: float | None, held: Held | None = None, c: float = 0.0
) -> Point:
    """Value and derivatives; with the best tau when it is None."""
    if cut.solution.factored is None:
        cut = slice_at(surface, cut.theta)
    gram, model, sol = surface.gram, surface.model, cut.solution
    r2, u, pull, stiffness = sol.r2, sol.u, np.nan, None
    if held is not None:
        half = solve_lower(sol.L_M, held.direction)
        spread = float(half @ half)
        delta = (held.offset + float(held.direction @ sol.beta) - c) / spread
        w = sol.V_X @ solve_lower_transposed(sol.L_M, half)
        u = u + delta * w
        r2 = r2 + delta * delta * spread
        pull = -2.0 * delta
    n = gram.n
    if tau is None:
        tau = float(np.log(r2 / n))
    sigma2 = np.exp(tau)
    value = sol.logdet_A - gram.sum_log_weights + n * (np.log(2.0 * np.pi) + tau) + r2 / sigma2
    U = by_levels(gram.shapes, u)
    squares = [block.T @ block / sigma2 for block in U]
    E = [
        levels * np.eye(s) - B - square
        for (levels, s), B, square in zip(gram.shapes, cut.B, squares, strict=True)
    ]
    along = model.gradient(squares)
    N = model.step_map
    at = replace(sol, u=u, r2=sigma2 * sol.nu)
    F = 2.0 * average_information(gram, at, model.directions)
    F += np.multiply.outer(along, along) / n
    if held is not None:
        W = by_levels(gram.shapes, w)
        lost = model.gradient([v.T @ block for v, block in zip(W, U, strict=True)])
        F += np.multiply.outer(lost, lost) / (sigma2 * spread)
    m = model.n_theta
    to_theta = np.linalg.inv(cut.jacobian)
    H = np.empty((m + 1, m + 1))
    H[:m, :m] = to_theta.T @ (N.T @ F @ N + model.curvature(E)) @ to_theta
    H[m, :m] = H[:m, m] = (N.T @ along) @ to_theta
    H[m, m] = r2 / sigma2
    g = np.empty(m + 1)
    g[:m] = (N.T @ model.gradient(E)) @ to_theta
    g[m] = n - r2 / sigma2
    if held is not None:
        both = np.append((N.T @ lost) @ to_theta * (2.0 / (sigma2 * spread)), -pull / sigma2)
        stiffness = (2.0 / (sigma2 * spread), both)
    return Point(cut, tau, float(value), g, H, F.diagonal(), pull / sigma2, stiffness)


def slim(at: Point) -> Point:
    """A point without its factorisation, which is large, and made anew where it is needed."""
    solution = replace(at.slice.solution, factored=None)
    return replace(at, slice=replace(at.slice, solution=solution))


def learn_correction(surface: Surface, at: Point, step: float = 2e-3) -> Array:
    """What the Hessian misses at a minimum, in (theta, tau), by central differences of the exact gradient.

    Parameters
    ----------
    step : float
        In standard errors of each coordinate, the others fixed. Pivots near zero are left alone.
    """
    m = surface.model.n_theta
    missing = np.zeros((m + 1, m + 1))
    seen = np.append(~(at.theta < 100.0 * surface.floor), False)
    for i in np.flatnonzero(seen):
        size = step / np.sqrt(max(abs(at.hessian[i, i]), surface.unit[i] ** -2))
        move = np.zeros(m)
        move[i] = size
        up, down = (
            point_at(surface, slice_at(surface, at.theta + sign * move), at.tau).gradient
            for sign in (1.0, -1.0)
        )
        missing[:, i] = (up - down) / (2.0 * size)
    missing = 0.5 * (missing + missing.T) - at.hessian
    return missing * np.multiply.outer(seen, seen)
