"""Newton descents of many responses on one small design, side by side.

All responses take their steps together: the sums over levels run in compiled loops (`sparselmm.kernels.border`), and
the algebra of n_theta x n_theta matrices on stacks of them, so that nothing is paid per response in Python.

A step kappa replaces T by T (I + sum_i kappa_i B_i). With S_i = B_i + B_i' (repeated over the levels of its factor),
Q = I - (u-part of C^-1), and Q* the same with A^-1 in place of C^-1 under ML, the deviance changes by
g'kappa + kappa'H kappa / 2 to second order:

    g_i  = tr(Q* S_i) - u'S_i u / s2
    H_ij = 2 u'S_i Q S_j u / s2 - (u'S_i u)(u'S_j u) / (nu s2²) - tr(Q* S_i Q* S_j) + <E, B_i B_j' + B_j B_i'>

which follows from d = log|I + Q* S| + nu log(r2 - u'S (I + Q S)^-1 u) + const for Sigma -> T (I + S) T'. The design's
border makes it cheap: with N_i = sum_l F_l'S_i F_l for the leading factor and N_i = S_i on its own columns for the
others, X_l = F_l K F_l' (K's own block for the others), Q_l the level's block of Q and J_l = Q_l + X_l,

    tr(Q S_i Q S_j)  = tr(K N_i K N_j) + sum over levels of tr(Q_l S_i Q_l S_j) - tr(X_l S_i X_l S_j)
    u'S_i Q S_j u    = sum over levels of u_l'S_i J_l S_j u_l - f_i'K f_j,    f_i = sum_l F_l'S_i u_l (others: - S_i u)

Where H is not positive definite its eigenvalues are taken by their absolute values, so that the step goes down along
all of them. Pivots of T stay above a floor, as in `sparselmm.optimise`: the optimum is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels.border import Border, eliminate, gather

LARGEST_STEP = 2.0  # of T, relative to its own size plus the variance that one level can show
LEAST_SHRINK = 0.1  # of a pivot in one step
GROWTH = 3.0  # relative to a pivot, of a step along negative curvature
SHORTER = 0.3  # of a step that raised the deviance
ATTEMPTS = 8  # at a shorter step
ROUNDING = 1e-13  # relative error of a deviance
DEFINITE = 1e-10  # smallest squared pivot of a Hessian scaled to unit diagonal


@dataclass(frozen=True, slots=True)
class Small:
    """A small design made ready for descents.

    Attributes
    ----------
    border : Border
    basis : ndarray, shape (m, k, s_max, s_max)
        T = sum_i theta_i basis_i, padded with zeros.
    floor : ndarray, shape (m,)
        Least value of the pivots; -inf for other entries of theta.
    noise : ndarray, shape (k, s_max, s_max)
        Diagonal: the variance that one level's data can show (one where padded).
    n : int
        Rows.
    reml : bool
    """

    border: Border
    basis: Array
    floor: Array
    noise: Array
    n: int
    reml: bool

    @property
    def inner_pivots(self) -> list[tuple[int, tuple[int, int, int]]]:
        """Pivots of unstructured terms with rows below: theta's index, and factor, column and size of T."""
        found = []
        for i in np.flatnonzero(np.isfinite(self.floor)):
            q, row, column = np.argwhere(self.basis[i])[0]
            below = self.basis[:, q, row + 1 :, column].any()
            if below:
                found.append((int(i), (int(q), int(column), int(self.border.factors[q, 1]))))
        return found

    @property
    def nu(self) -> int:
        """n - p (REML) or n (ML)."""
        border = self.border
        return self.n - (len(border.A) - border.n_Z if self.reml else 0)

    def factors(self, theta: Array) -> Array:
        """T of every response, shape (R, k, s_max, s_max)."""
        return np.ascontiguousarray(np.tensordot(theta, self.basis, 1))

    def theta(self, T: Array) -> Array:
        """theta read off factors, not below the floor, shape (R, m)."""
        norms = np.einsum("ikab,ikab->i", self.basis, self.basis)
        return np.maximum(np.einsum("rkab,ikab->ri", T, self.basis) / norms, self.floor)


@dataclass(frozen=True, slots=True)
class Workspace:
    """Arrays that the kernels fill, one entry per response (see `eliminate`, `gather`)."""

    C1: Array
    CB: Array
    YY: Array
    L: Array
    G: Array
    g: Array
    K: Array
    estimates: Array


def workspace(small: Small, C1: Array, CB: Array, YY: Array) -> Workspace:
    """Room for the responses with the given cross-products."""
    R, (levels, s, n_b) = len(YY), small.border.C.shape
    return Workspace(
        np.ascontiguousarray(C1), np.ascontiguousarray(CB), np.ascontiguousarray(YY),
        np.zeros((R, levels, s, s)), np.empty((R, levels, s, n_b)), np.empty((R, levels, s)),
        np.zeros((R, 2, n_b, n_b)), np.empty((R, n_b + 2)),
    )  # fmt: skip


def bytes_per_response(border: Border) -> int:
    """Memory that one response takes during a descent."""
    (levels, s, n_b), m = border.C.shape, len(border.owner)
    return 8 * (levels * s * (s + n_b + 2) + (2 + 3 * m) * n_b * n_b + 4 * n_b + 50 * m)


def deviances(small: Small, work: Workspace, rows: Array, theta: Array) -> Array:
    """The deviance of responses `rows` at their theta, shape (rows, m), without constants."""
    eliminate(
        small.border, small.nu, small.reml, rows, small.factors(theta), work.C1, work.CB, work.YY,
        work.L, work.G, work.g, work.K, work.estimates,
    )  # fmt: skip
    return work.estimates[rows, -1]


def slopes(small: Small, work: Workspace, rows: Array) -> tuple[Array, Array]:
    """Gradient (rows, m) and Hessian (rows, m, m) where `deviances` was last taken; overwrites the workspace."""
    border, n_b = small.border, len(small.border.A)
    R, m = len(rows), len(border.owner)
    k, t = len(border.factors), border.pairs.shape[1]
    second, fourth = np.zeros((R, k, 2, t, t)), np.zeros((R, k, 2, t, t, t, t))
    N, f = np.zeros((R, m, n_b, n_b)), np.zeros((R, m, n_b))
    gather(border, rows, work.L, work.G, work.g, work.K, work.estimates, second, fourth, N, f)
    s2 = work.estimates[rows, n_b][:, None, None]
    UU = second[:, border.owner, 1]
    along = np.einsum("riab,iab->ri", UU, border.pairs)
    gradient = (
        np.einsum("riab,iab->ri", second[:, border.owner, 0], border.pairs) - along / s2[:, 0]
    )
    K, K_star = work.K[rows, 0], work.K[rows, 1]
    square = _paired(border, fourth[:, :, 1]) - f @ K @ f.transpose(0, 2, 1)
    KN = K_star[:, None] @ N
    trace = KN.reshape(R, m, -1) @ KN.transpose(0, 1, 3, 2).reshape(R, m, -1).transpose(0, 2, 1)
    hessian = 2.0 * square / s2 - along[:, :, None] * along[:, None] / (small.nu * s2**2)
    hessian -= trace + _paired(border, fourth[:, :, 0])
    hessian += _bend(small, second[:, :, 0] - second[:, :, 1] / s2[:, None])
    return gradient, hessian


def _paired(border: Border, fourth: Array) -> Array:
    """<S_i x S_j, fourth> for directions of one factor, shape (R, m, m)."""
    same = border.owner[:, None] == border.owner
    half = np.einsum("riabcd,iab->ricd", fourth[:, border.owner], border.pairs)
    return np.einsum("ricd,jcd->rij", half, border.pairs) * same


def _bend(small: Small, E: Array) -> Array:
    """<E, B_i B_j' + B_j B_i'>, shape (R, m, m)."""
    EB = np.einsum("rkab,ikbc->rikac", E, small.basis)
    return 2.0 * np.einsum("rikac,jkac->rij", EB, small.basis)


def cholesky_stack(M: Array) -> Array:
    """Lower Cholesky factors of a stack of matrices, shape (R, m, m); NaN where not definite."""
    L = np.zeros_like(M)
    for j in range(M.shape[1]):
        column = M[:, j:, j] - np.einsum("rik,rk->ri", L[:, j:, :j], L[:, j, :j])
        L[:, j:, j] = column / np.sqrt(column[:, :1])
    return L


def solve_lower_stack(L: Array, B: Array) -> Array:
    """L^-1 B for stacks of lower triangular L, shape (R, m, m), and B, shape (R, m, c)."""
    X = B.copy()
    for a in range(L.shape[1]):
        X[:, a] = (X[:, a] - np.einsum("rb,rbc->rc", L[:, a, :a], X[:, :a])) / L[:, a, a, None]
    return X


def solve_scaled(H: Array, g: Array, free: Array) -> tuple[Array, Array]:
    """-H^-1 g over the free coordinates, zero elsewhere, and where H is positive definite there.

    Parameters
    ----------
    H : ndarray, shape (R, m, m)
        Where it is not definite, the absolute values of its eigenvalues are taken.
    g : ndarray, shape (R, m)
    free : ndarray of bool, shape (R, m)

    Returns
    -------
    x : ndarray, shape (R, m)
    definite : ndarray of bool, shape (R,)
    """
    m = g.shape[1]
    diagonal = np.einsum("rii->ri", H)
    scale = np.sqrt(np.where(free, np.maximum(np.abs(diagonal), np.finfo(float).tiny), 1.0))
    M = np.where(free[:, :, None] & free[:, None], H / (scale[:, :, None] * scale[:, None]), 0.0)
    M[:, np.arange(m), np.arange(m)] = np.where(free, np.sign(diagonal), 1.0)
    right = np.where(free, -g / scale, 0.0)
    L = cholesky_stack(M)
    definite = (np.einsum("rii->ri", L) ** 2 > DEFINITE).all(axis=1)
    half = solve_lower_stack(L, right[:, :, None])
    backwards = L[:, ::-1, ::-1].transpose(0, 2, 1)
    x = solve_lower_stack(backwards, half[:, ::-1])[:, ::-1, 0]
    bad = np.flatnonzero(~definite & np.isfinite(M).all(axis=(1, 2)))
    if len(bad):
        x[bad] = _solve_saddle(M[bad], right[bad])
    return np.where(free, x / scale, 0.0), definite


def _solve_saddle(M: Array, right: Array) -> Array:
    """|M|^-1 right, steps along negative curvature a few times as long."""
    values, vectors = np.linalg.eigh(M)
    along = np.einsum("rij,ri->rj", vectors, right) / np.maximum(np.abs(values), 1e-4)
    return np.einsum("rij,rj->ri", vectors, np.where(values < 0.0, GROWTH, 1.0) * along)


def relative_size(small: Small, T: Array, move: Array) -> Array:
    """Largest Frobenius norm of (T T' + noise)^(-1/2) move over the factors, shape (R,)."""
    t = T.shape[-1]
    L = cholesky_stack((T @ T.transpose(0, 1, 3, 2) + small.noise).reshape(-1, t, t))
    relative = solve_lower_stack(L, move.reshape(-1, t, t)).reshape(move.shape)
    return np.sqrt(np.einsum("rkab,rkab->rk", relative, relative)).max(axis=1)


def newton_moves(small: Small, theta: Array, T: Array, g: Array, H: Array) -> tuple[Array, Array]:
    """Changes of T by Newton steps above the floor, and the fall of the deviance they predict (NaN: H not definite)."""
    floor = small.floor
    pivots = np.isfinite(floor)
    least = np.full(theta.shape, -np.inf)
    least[:, pivots] = np.maximum(floor[pivots] / theta[:, pivots], LEAST_SHRINK) - 1.0
    free = ~((theta <= floor * (1.0 + 1e-9)) & (g >= 0.0))
    kappa = np.zeros_like(theta)
    for _ in range(theta.shape[1] + 1):
        held = np.where(free, 0.0, kappa)
        step, definite = solve_scaled(H, g + np.einsum("rij,rj->ri", H, held), free)
        kappa = held + step
        below = free & (kappa < least)
        if not below.any():
            break
        kappa = np.where(below, least, kappa)
        free &= ~below
    move = T @ small.factors(kappa)
    share = LARGEST_STEP / np.maximum(relative_size(small, T, move), LARGEST_STEP)
    kappa *= share[:, None]
    gain = -np.einsum("ri,ri->r", g + 0.5 * np.einsum("rij,rj->ri", H, kappa), kappa)
    return move * share[:, None, None, None], np.where(definite, gain, np.nan)


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the descents of R responses ended.

    Attributes
    ----------
    theta : ndarray, shape (R, m)
        Pivots on the floor are zero.
    estimates : ndarray, shape (R, n_b + 2)
        See `sparselmm.kernels.border.eliminate`.
    evaluations : ndarray of int64, shape (R,)
    passed : ndarray of bool, shape (R,)
        Whether the end is a minimum.
    """

    theta: Array
    estimates: Array
    evaluations: Array
    passed: Array


def descend(
    small: Small, work: Workspace, start: Array, tolerance: float, max_evaluations: int
) -> Ends:
    """Minimise the deviance for every response.

    Parameters
    ----------
    small : Small
    work : Workspace
    start : ndarray, shape (R, m)
    tolerance : float
        Stop when a step promises less.
    max_evaluations : int
        Of derivatives, per response.
    """
    R = len(start)
    theta, trial = np.maximum(start, small.floor), np.maximum(start, small.floor)
    best, rounding, gain = np.full(R, np.inf), np.zeros(R), np.full(R, np.nan)
    attempts, evaluations = np.zeros(R, int), np.zeros(R, int)
    passed, active = np.zeros(R, bool), np.arange(R)
    with np.errstate(invalid="ignore", divide="ignore"):
        while len(active):
            new = deviances(small, work, active, trial[active])
            evaluations[active] += 1
            lower = new <= best[active] + rounding[active]
            rows, worse = active[lower], active[~lower]
            theta[rows], best[rows], attempts[rows] = trial[rows], new[lower], 0
            rounding[rows] = ROUNDING * (np.abs(best[rows]) + small.n)
            attempts[worse] += 1
            trial[worse] = theta[worse] + SHORTER * (trial[worse] - theta[worse])
            if len(rows):
                trial[rows], gain[rows] = _propose(small, work, rows, theta[rows])
            least = np.where(attempts[active] == ATTEMPTS, rounding[active], tolerance)
            passed[active] = gain[active] <= least
            given_up = (attempts[active] == ATTEMPTS) | (evaluations[active] >= max_evaluations)
            given_up |= ~np.isfinite(new) | np.isnan(trial[active]).any(axis=1)
            active = active[~(passed[active] | given_up)]
        theta[theta <= 2.0 * small.floor] = 0.0
        deviances(small, work, np.arange(R), theta)
    return Ends(theta, work.estimates, evaluations, passed & np.isfinite(work.estimates[:, -1]))


def clear_columns(small: Small, theta: Array) -> Array:
    """theta with nothing below a pivot on the floor: the same covariance, the column's entries turned into later ones.

    What lies below a pivot of zero could be turned into the columns to its right in any share; left undecided it is a
    direction without slope, and its sign would decide on which side the pivot can leave the floor.
    """
    for i, (q, j, size) in small.inner_pivots:
        low = np.flatnonzero(theta[:, i] <= small.floor[i])
        if len(low):
            T = small.factors(theta[low])
            M = T[:, q, j + 1 : size, j:size]
            turned = cholesky_stack(M @ M.transpose(0, 2, 1))
            good = np.isfinite(turned).all(axis=(1, 2))
            T[good, q, j + 1 : size, j] = 0.0
            T[good, q, j + 1 : size, j + 1 : size] = turned[good]
            theta[low] = small.theta(T)
    return theta


def _propose(small: Small, work: Workspace, rows: Array, theta: Array) -> tuple[Array, Array]:
    """The next theta of responses `rows` and the fall of the deviance it promises (NaN: no promise)."""
    T = small.factors(theta)
    move, gain = newton_moves(small, theta, T, *slopes(small, work, rows))
    return clear_columns(small, small.theta(T + move)), gain
