"""Second derivatives where all random effects live on one factor: exact, from one factorisation.

For relative directions Sigma -> T (I + t S) T', with N = I - A^-1 (block-diagonal by levels), d_a = S_a u and
V_X = A^-1 Lambda'Z'X by levels, q_a = u'S_a u, W_a = V_X'S_a V_X and nu as in `engine`,

    d2 log|H| = -tr(N S_a N S_b)
    d2 log|M| = 2 tr(M^-1 (S_a V_X)'N(S_b V_X)) - tr(M^-1 W_a M^-1 W_b)
    d2 nu log r2 = nu (2 d_a'N d_b / r2 - q_a q_b / r2²)
    d2 l / dbeta da = (nu / r2) (-V_X'd_a + X'H^-1 r q_a / r2)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels.engine import Point
from sparselmm.criterion import by_levels
from sparselmm.tall import level_products, tall_product, wide_product


def has_one_factor(point: Point) -> bool:
    """Whether A is block-diagonal by levels."""
    return len(point.engine.prepared.gram.shapes) == 1


def second_derivatives(point: Point, directions: Sequence[Array]) -> tuple[Array, Array]:
    """Derivatives of the log-likelihood along relative directions.

    Parameters
    ----------
    point : Point
    directions : sequence of ndarray, shape (s, s)
        Symmetric matrices S_a.

    Returns
    -------
    ndarray, shape (m, m)
    ndarray, shape (k_fe, m)
        With the fixed effects.
    """
    engine, at = point.engine, point.solution
    prepared = engine.prepared
    shapes = prepared.gram.shapes
    (U,), (V,) = by_levels(shapes, at.u), by_levels(shapes, np.ascontiguousarray(at.V_X))
    S = np.array(directions)
    with engine.threads():
        factored = at.factored or prepared.system.at(at.T)
        (blocks,) = factored.inverse_blocks()
        N = np.eye(U.shape[1]) - blocks
        D = wide_product(U, S.transpose(1, 2, 0).reshape(U.shape[1], -1))
        flat = D.reshape(at.u.size, len(S))
        inner = np.einsum("mab,nbc,ac->mn", S, S, tall_product(U, U)) - factored.form(flat)
        second = -_traces(level_products(N, N), S)
        if at.reml and at.V_X.shape[1]:
            second += _fixed_part(at.L_M, V, N, S)
        along = tall_product(at.V_X, flat)
    q = at.u @ flat
    second += at.nu * (2.0 * inner / at.r2 - np.outer(q, q) / at.r2**2)
    moved = at.L_M @ (at.L_M.T @ point.distance)
    cross = np.zeros((engine.k_fe, len(S)))
    slopes = -along + np.outer(moved, q) / at.r2
    cross[prepared.gram.basis.kept] = prepared.gram.basis.Rx.T @ slopes / at.s2
    return -0.5 * second, cross


def _fixed_part(L_M: Array, V: Array, N: Array, S: Array) -> Array:
    """Second derivatives of log|M|."""
    p = V.shape[2]
    H = wide_product(V.reshape(-1, p), np.linalg.inv(L_M).T).reshape(V.shape)
    products = _traces(level_products(N, np.einsum("lap,lbp->lab", H, H)), S)
    W = np.einsum("apbr,mab->mpr", level_products(H, H), S)
    return 2.0 * products - np.einsum("mpr,nrp->mn", W, W)


def _traces(products: Array, S: Array) -> Array:
    """Sum of tr(N S_m C S_n) over levels, from the sums of N[a, b] C[c, d]."""
    return np.einsum("abcd,mbc,nda->mn", products, S, S)
