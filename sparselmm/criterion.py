"""Value, exact score and average information of the profiled deviance at one set of factors T.

With A = Lambda'Z'WZ Lambda + I, R = Lambda'Z'W[X y] and V = A^-1 R,

    [X y]'H^-1[X y] = [X y]'W[X y] - R'V = [[M, c], [c', h]]
    beta = M^-1 c,   r2 = h - c'beta,   u = V_y - V_X beta
    ML:    d = log|A| - sum log w + n (1 + log(2 pi r2 / n))
    REML:  d = log|A| + log|M| + 2 log|det R_x| - sum log w + (n-p) (1 + log(2 pi r2 / (n-p)))

Score and information live in relative coordinates: Sigma_j changes by T_j S T_j' with S symmetric. There

    gradient:     E_j = l_j I - B_j - U_j'U_j / s2
                  (B_j: sum of the diagonal blocks of A^-1, under REML of the u-part of C^-1)
    information:  AI_ab = (1/2) [ f_a'P f_b / s2 - (d_a'u)(d_b'u) / (nu s2²) ]
                  with d_a = U S_a by levels, f_a = Z Lambda d_a,
                  f_a'P f_b = d_a'd_b - d_a'A^-1 d_b - (V_X'd_a)' M^-1 (V_X'd_b)

so that one solve with the factor already at hand gives the information, and no cross-product is touched again
(the general formula is that of Gilmour, Thompson & Cullis 1995, Biometrics 51, eq. 7; the relative form follows from
(Z Lambda)'H^-1(Z Lambda) = I - A^-1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sparselmm._types import Array
from sparselmm.gram import Gram
from sparselmm.linalg import cholesky_lower, solve_lower, solve_lower_transposed
from sparselmm.systems.base import Factored, System
from sparselmm.tall import level_products, tall_product, wide_product


@dataclass(frozen=True, slots=True)
class Solution:
    """Everything that one factorisation gives, in internal coordinates.

    Attributes
    ----------
    T : tuple of ndarray, shape (s_j, s_j)
    factored : Factored
        None where it was not made, or is not kept.
    reml : bool
    deviance : float
        Minus twice the profiled log (restricted) likelihood.
    logdet_A, logdet_M : float
    r2 : float
        Penalised residual sum of squares.
    nu : int
        n (ML) or n - p (REML); s2 = r2 / nu.
    beta : ndarray, shape (p,)
    u : ndarray, shape (q,)
        Spherical random effects.
    V : ndarray, shape (q, p + 1)
        A^-1 Lambda'Z'W[X y].
    L_M : ndarray, shape (p, p)
        Lower Cholesky factor of M = X'H^-1X.
    """

    T: tuple[Array, ...]
    factored: Factored
    reml: bool
    deviance: float
    logdet_A: float
    logdet_M: float
    r2: float
    nu: int
    beta: Array
    u: Array
    V: Array
    L_M: Array

    @property
    def V_X(self) -> Array:
        """A^-1 Lambda'Z'WX, shape (q, p)."""
        return self.V[:, :-1]

    @property
    def s2(self) -> float:
        """Profiled residual variance."""
        return self.r2 / self.nu


def by_levels(shapes: Sequence[tuple[int, int]], v: Array) -> list[Array]:
    """Views of shape (l_j, s_j, …) of a vector (or matrix) over all coefficients, one per factor."""
    views, at = [], 0
    for levels, s in shapes:
        views.append(v[at : at + levels * s].reshape(levels, s, *v.shape[1:]))
        at += levels * s
    return views


def solve_at(gram: Gram, system: System, T: Sequence[Array], *, reml: bool) -> Solution:
    """Factorise at T and profile beta and sigma out.

    Parameters
    ----------
    gram : Gram
    system : System
    T : sequence of ndarray, shape (s_j, s_j)
        Relative covariance factors in internal coordinates.
    reml : bool
    """
    T = tuple(np.ascontiguousarray(t, dtype=float) for t in T)
    factored = system.at(T)
    V, RtV = factored.solve_scaled(T, gram.ZtXy)
    return profiled(gram, T, factored, factored.logdet, V, gram.XytXy - RtV, reml=reml)


def profiled(
    gram: Gram, T: tuple[Array, ...], factored: Factored, logdet: float, V: Array, inner: Array, *, reml: bool
) -> Solution:  # fmt: skip
    """Profile beta and sigma out of ``inner``, [X y]'H^-1[X y]."""
    p, n = gram.p, gram.n
    L_M = cholesky_lower(inner[:p, :p])
    half = solve_lower(L_M, inner[:p, p])
    beta = solve_lower_transposed(L_M, half)
    u = wide_product(V, np.append(-beta, 1.0)[:, None])[:, 0]
    r2 = float(inner[p, p] - half @ half)
    nu = n - p if reml else n
    logdet_M = 2.0 * float(np.log(L_M.diagonal()).sum())
    deviance = logdet - gram.sum_log_weights + nu * (1.0 + np.log(2.0 * np.pi * r2 / nu))
    if reml:
        deviance += logdet_M + 2.0 * gram.basis.logdet_Rx
    return Solution(
        T, factored, reml, float(deviance), logdet, logdet_M, r2, nu, beta, u, V, L_M
    )  # fmt: skip


class LevelSums(NamedTuple):
    """Sums of products over the levels of one factor.

    Attributes
    ----------
    VV : ndarray, shape (s_j, p + 1, s_j, p + 1)
        Of V with itself, which REML needs; empty under ML.
    Vu : ndarray, shape (s_j, p + 1, s_j)
        Of V with u.
    uu : ndarray, shape (s_j, s_j)
        Of u with itself.
    """

    VV: Array
    Vu: Array
    uu: Array


def level_sums(gram: Gram, at: Solution) -> list[LevelSums]:
    """The sums of every factor; under REML in one pass over V, since u = V (-beta, 1)."""
    mix = np.append(-at.beta, 1.0)
    sums = []
    for V, u in zip(by_levels(gram.shapes, at.V), by_levels(gram.shapes, at.u), strict=True):
        if at.reml:
            VV = level_products(V, V)
            sums.append(LevelSums(VV, VV @ mix, mix @ (VV @ mix)))
        else:
            Vu = level_products(V, u[:, :, None])[..., 0]
            sums.append(LevelSums(np.empty(0), Vu, tall_product(u, u)))
    return sums


def inverse_sums(
    gram: Gram,
    at: Solution,
    sums: Sequence[LevelSums] | None = None,
    inner: Sequence[Array] | None = None,
) -> list[Array]:
    """B_j: sums over levels of the diagonal blocks of A^-1 (ML) or of the u-part of C^-1 (REML).

    Parameters
    ----------
    sums : sequence of LevelSums
        Where they are at hand.
    inner : sequence of ndarray, shape (s_j, s_j)
        The sums of A^-1 alone, where they are.
    """
    B = list(at.factored.inverse_sums() if inner is None else inner)
    if at.reml and gram.p:
        M_inverse = np.pad(fixed_covariance(at) / at.s2, (0, 1))
        VV = (of.VV for of in sums or level_sums(gram, at))
        B = [own + np.einsum("apbr,pr->ab", of, M_inverse) for own, of in zip(B, VV, strict=True)]
    return B


def gradient_matrices(
    gram: Gram,
    at: Solution,
    sums: Sequence[LevelSums] | None = None,
    inner: Sequence[Array] | None = None,
) -> list[Array]:
    """E_j of the module's formula, symmetric, one per factor; parameters as of `inverse_sums`."""
    sums = sums or level_sums(gram, at)
    found = inverse_sums(gram, at, sums, inner)
    return [
        levels * np.eye(s) - B - of.uu / at.s2
        for (levels, s), B, of in zip(gram.shapes, found, sums, strict=True)
    ]


def average_information(
    gram: Gram,
    at: Solution,
    directions: Sequence[tuple[int, Array]],
    sums: Sequence[LevelSums] | None = None,
) -> Array:
    """Average information in the given relative directions; the Hessian of d is about twice it.

    Parameters
    ----------
    directions : sequence of (int, ndarray of shape (s_j, s_j))
        Factor and symmetric matrix S_a.
    sums : sequence of LevelSums
        Where they are at hand.

    Returns
    -------
    ndarray, shape (m, m)
    """
    sums = sums or level_sums(gram, at)
    along = np.array([np.vdot(S, sums[j].uu) for j, S in directions])
    inner = np.zeros((len(directions), len(directions)))
    for j, of in enumerate(sums):
        own = [a for a, (factor, _) in enumerate(directions) if factor == j]
        if own:
            S = np.array([directions[a][1] for a in own])
            inner[np.ix_(own, own)] = (S @ of.uu).reshape(len(S), -1) @ S.reshape(len(S), -1).T
    inner -= at.factored.form(_directions(gram, by_levels(gram.shapes, at.u), directions))
    if gram.p:
        slopes = [np.einsum("apb,ab->p", sums[j].Vu[:, :-1], S) for j, S in directions]
        half = solve_lower(at.L_M, np.array(slopes).T)
        inner -= half.T @ half
    return 0.5 * (inner / at.s2 - np.outer(along, along) / (at.nu * at.s2**2))


def _directions(gram: Gram, U: Sequence[Array], directions: Sequence[tuple[int, Array]]) -> Array:
    """d_a = U S_a by levels, zero outside of S_a's factor; shape (q, m)."""
    if len(U) == 1:
        stack = np.stack([S for _, S in directions], axis=2)
        return wide_product(U[0], stack.reshape(len(stack), -1)).reshape(gram.q, len(directions))
    D = np.zeros((gram.q, len(directions)))
    for factor, (u, view) in enumerate(zip(U, by_levels(gram.shapes, D), strict=True)):
        for a, (j, S) in enumerate(directions):
            if j == factor:
                view[:, :, a] = u @ S
    return D


def fixed_covariance(at: Solution) -> Array:
    """s2 M^-1, internal coordinates."""
    inverse = solve_lower(at.L_M, np.eye(len(at.L_M)))
    return at.s2 * inverse.T @ inverse
