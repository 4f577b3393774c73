"""A small design: deviance, gradient and exact Hessian for a stack of responses.

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
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels.border import Border, eliminate, gather
from sparselmm.refits.stacks import semidefinite_cholesky

FLOOR = 3e-5  # length of a column of T, in units of what one level's data can show
NEAR = 4.0 * FLOOR  # length up to which a column counts as lying on the floor


@dataclass(frozen=True, slots=True)
class Small:
    """A small design made ready for descents.

    Attributes
    ----------
    border : Border
    basis : ndarray, shape (m, k, s_max, s_max)
        T = sum_i theta_i basis_i, padded with zeros.
    noise : ndarray, shape (k, s_max)
        Root of the variance that one level's data can show (one where padded).
    blocks : tuple of (int, int, int)
        Factor, first and last (excluded) column of every unstructured term of several columns.
    n : int
        Rows.
    reml : bool
    """

    border: Border
    basis: Array
    noise: Array
    blocks: tuple[tuple[int, int, int], ...]
    n: int
    reml: bool

    @property
    def pivots(self) -> Array:
        """Which entries of theta lie on the diagonal of a T, shape (m,)."""
        return np.einsum("ikaa->i", self.basis) > 0.0

    @property
    def places(self) -> Array:
        """Factor, row and column of T from which every theta is read, shape (m, 3)."""
        return np.array([np.argwhere(own)[0] for own in self.basis])

    @property
    def columns(self) -> tuple[Array, Array]:
        """Factor and column of every entry of theta on the diagonal."""
        own = self.places[self.pivots]
        return own[:, 0], own[:, 2]

    def lengths(self, T: Array) -> Array:
        """Lengths of the columns of T that belong to pivots, in units of the noise, shape (R, pivots)."""
        scaled = T / self.noise[:, :, None]
        own = np.sqrt(np.einsum("rkab,rkab->rkb", scaled, scaled))
        return own[:, self.columns[0], self.columns[1]]

    @property
    def nu(self) -> int:
        """n - p (REML) or n (ML)."""
        border = self.border
        return self.n - (len(border.A) - border.n_Z if self.reml else 0)

    def factors(self, theta: Array) -> Array:
        """T of every response, shape (R, k, s_max, s_max)."""
        return np.ascontiguousarray(np.tensordot(theta, self.basis, 1))

    def theta(self, T: Array) -> Array:
        """theta read off factors of the templates' form, shape (R, m)."""
        norms = np.einsum("ikab,ikab->i", self.basis, self.basis)
        return np.einsum("rkab,ikab->ri", T, self.basis) / norms

    def framed(self, T: Array, least: float = FLOOR) -> Array:
        """The same covariances with unstructured terms on their principal axes and columns at least so long."""
        out = T.copy()
        q, a = self.columns
        for factor, column in zip(q, a, strict=True):
            floor = least * self.noise[factor, column]
            out[:, factor, column, column] = np.maximum(T[:, factor, column, column], floor)
        for factor, a, b in self.blocks:
            scale = self.noise[factor, a:b, None]
            axes, lengths, _ = np.linalg.svd(T[:, factor, a:b, a:b] / scale)
            out[:, factor, a:b, a:b] = scale * axes * np.maximum(lengths, least)[:, None]
        return out

    def triangular(self, T: Array) -> tuple[Array, Array]:
        """theta of factors, and where a column lies on the floor: it becomes zero; shapes (R, m) and (R,)."""
        low = self.lengths(T) <= NEAR
        out = T.copy()
        for place, (factor, column) in enumerate(zip(*self.columns, strict=True)):
            out[low[:, place], factor, :, column] = 0.0
        for factor, a, b in self.blocks:
            own = out[:, factor, a:b, a:b]
            out[:, factor, a:b, a:b] = semidefinite_cholesky(own @ own.transpose(0, 2, 1))
        return self.theta(out), low.sum(axis=1) > 0


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


def deviances(small: Small, work: Workspace, rows: Array, T: Array) -> Array:
    """The deviance of responses `rows` at their T, shape (rows, k, s_max, s_max), without constants."""
    eliminate(
        small.border, small.nu, small.reml, rows, T, work.C1, work.CB, work.YY,
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
