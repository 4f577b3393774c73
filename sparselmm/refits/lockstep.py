"""Newton descents of many responses on one small design, side by side.

All responses take their steps together: the sums over levels run in compiled loops (`sparselmm.kernels.border`), and
the algebra of n_theta x n_theta matrices on stacks of them, so that nothing is paid per response in Python.

T need not be triangular: the T of an unstructured term is kept as principal axes times their lengths (in units of what
one level's data can show), longest first. Then a covariance that becomes singular loses its last column, whatever its
direction, and what lies below that column's pivot has no say. Columns stay above a floor; where H is not positive
definite, its eigenvalues are taken by their absolute values, so that the step goes down along all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.refits.small import FLOOR, NEAR, Small, Workspace, deviances, slopes
from sparselmm.refits.stacks import cholesky_stack, solve_lower_stack, solve_scaled

LARGEST_STEP = 2.0  # of T, relative to its own size plus what one level's data can show
LEAST_SHRINK = 0.1  # of a column in one step
SHORTEST_START = 0.1  # length of a column to begin with
SHORTER = 0.3  # of a step that raised the deviance
ATTEMPTS = 8  # at a shorter step
ROUNDING = 1e-13  # relative error of a deviance


def relative_size(small: Small, T: Array, move: Array) -> Array:
    """Largest Frobenius norm of (T T' + noise)^(-1/2) move over the factors, shape (R,)."""
    t = T.shape[-1]
    noise = np.eye(t) * small.noise[:, None] ** 2
    L = cholesky_stack((T @ T.transpose(0, 1, 3, 2) + noise).reshape(-1, t, t))
    relative = solve_lower_stack(L, move.reshape(-1, t, t)).reshape(move.shape)
    return np.sqrt(np.einsum("rkab,rkab->rk", relative, relative)).max(axis=1)


def newton_moves(small: Small, T: Array, g: Array, H: Array) -> tuple[Array, Array]:
    """Changes of T by Newton steps above the floor, and the fall of the deviance they predict (NaN: H not definite)."""
    lengths, pivots = small.lengths(T), small.pivots
    least, free = np.full(g.shape, -np.inf), np.ones(g.shape, bool)
    least[:, pivots] = np.maximum(FLOOR / lengths, LEAST_SHRINK) - 1.0
    free[:, pivots] = ~((lengths <= FLOOR * (1.0 + 1e-6)) & (g[:, pivots] >= 0.0))
    free &= ~settled(small, g, lengths)
    direct, definite = solve_scaled(H, g, free)
    kappa = _bounded(H, g, free, direct, least)
    gain = -np.einsum("ri,ri->r", g + 0.5 * np.einsum("rij,rj->ri", H, kappa), kappa)
    sure = definite & (gain > -1e-14)
    kappa = np.where(sure[:, None], kappa, _shortened(direct, least))
    move = T @ small.factors(kappa)
    share = LARGEST_STEP / np.maximum(relative_size(small, T, move), LARGEST_STEP)
    kappa *= share[:, None]
    gain = -np.einsum("ri,ri->r", g + 0.5 * np.einsum("rij,rj->ri", H, kappa), kappa)
    return move * share[:, None, None, None], np.where(sure, gain, np.nan)


def _bounded(H: Array, g: Array, free: Array, direct: Array, least: Array) -> Array:
    """Minimum of the quadratic model with the entries that would fall below their bounds held there."""
    kappa = direct
    for _ in range(g.shape[1]):
        below = free & (kappa < least)
        if not below.any():
            break
        free = free & ~below
        held = np.where(below, least, np.where(free, 0.0, kappa))
        step, _ = solve_scaled(H, g + np.einsum("rij,rj->ri", H, held), free)
        kappa = held + step
    return kappa


def _shortened(direct: Array, least: Array) -> Array:
    """A step downhill, as long as the bounds allow; entries that are at their bound stay there."""
    step = np.where((direct < least) & (least > -1e-3), 0.0, direct)
    share = np.where(step < least, least / np.where(step < least, step, -1.0), 1.0)
    return step * share.min(axis=1, keepdims=True)


def settled(small: Small, g: Array, lengths: Array) -> Array:
    """Entries of kappa between columns on the floor, where no combination of these columns wants to grow, (R, m).

    That is so where E, whose entries are half the gradient's, is positive semidefinite on these columns.
    """
    out = np.zeros(g.shape, bool)
    owner, (_, rows, columns) = small.border.owner, small.places.T
    for factor, a, b in small.blocks:
        own = np.flatnonzero((owner == factor) & (rows >= a) & (rows < b))
        pivot = own[rows[own] == columns[own]]
        low = lengths[:, np.searchsorted(np.flatnonzero(small.pivots), pivot)] <= NEAR
        some = np.flatnonzero(low.sum(axis=1) > 1)
        if len(some):
            i, j = rows[own] - a, columns[own] - a
            both = low[some][:, i] & low[some][:, j]
            own_g = g[some][:, own]
            largest = np.abs(np.where(both, own_g, 0.0)).max(axis=1, keepdims=True)
            E = np.zeros((len(some), b - a, b - a))
            E[:, i, j] = E[:, j, i] = np.where(both, own_g / np.maximum(largest, 1e-300), 0.0)
            fine = np.linalg.eigvalsh(E)[:, 0] >= -1e-6
            out[np.ix_(some, own)] = both & fine[:, None]
    return out


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the descents of R responses ended.

    Attributes
    ----------
    theta : ndarray, shape (R, m)
        Zero where a column of T is on the floor.
    estimates : ndarray, shape (R, n_b + 2)
        See `sparselmm.kernels.border.eliminate`.
    evaluations : ndarray of int64, shape (R,)
    passed, singular : ndarray of bool, shape (R,)
        Whether the end is a minimum, and whether it is on the boundary.
    """

    theta: Array
    estimates: Array
    evaluations: Array
    passed: Array
    singular: Array


def descend(
    small: Small, work: Workspace, start: Array, tolerance: float, max_evaluations: int
) -> Ends:
    """Minimise the deviance for every response.

    Parameters
    ----------
    small : Small
    work : Workspace
    start : ndarray, shape (m,)
        theta to begin with; short columns are lengthened, so that all can grow.
    tolerance : float
        Stop when a step promises less.
    max_evaluations : int
        Per response.
    """
    R = len(work.YY)
    T = np.repeat(small.framed(small.factors(start[None]), SHORTEST_START), R, axis=0)
    trial, move = T.copy(), np.zeros_like(T)
    best, rounding, gain = np.full(R, np.inf), np.zeros(R), np.full(R, np.nan)
    attempts, evaluations = np.zeros(R, np.int64), np.zeros(R, np.int64)
    passed, active = np.zeros(R, bool), np.arange(R)
    with np.errstate(invalid="ignore", divide="ignore"):
        while len(active):
            new = deviances(small, work, active, trial[active])
            evaluations[active] += 1
            lower = new <= best[active] + rounding[active]
            rows, worse = active[lower], active[~lower]
            T[rows], best[rows], attempts[rows] = trial[rows], new[lower], 0
            rounding[rows] = ROUNDING * (np.abs(best[rows]) + small.n)
            attempts[worse] += 1
            move[worse] *= SHORTER
            if len(rows):
                move[rows], gain[rows] = newton_moves(small, T[rows], *slopes(small, work, rows))
            least = np.where(attempts[active] == ATTEMPTS, rounding[active], tolerance)
            passed[active] = gain[active] <= least
            given_up = (attempts[active] == ATTEMPTS) | (evaluations[active] >= max_evaluations)
            given_up |= ~np.isfinite(move[active]).all(axis=(1, 2, 3))
            active = active[~(passed[active] | given_up)]
            trial[active] = small.framed(T[active] + move[active])
        theta, singular = small.triangular(T)
        deviances(small, work, np.arange(R), small.factors(theta))
    passed &= np.isfinite(work.estimates[:, -1])
    return Ends(theta, work.estimates, evaluations, passed, singular)
