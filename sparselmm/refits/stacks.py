"""Linear algebra on stacks of small matrices, one per response, without a call of LAPACK for each."""

from __future__ import annotations

import numpy as np

from sparselmm._types import Array

GROWTH = 3.0  # how far a step follows negative curvature, relative to the Newton step of the opposite curvature
DEFINITE = 1e-10  # smallest squared pivot of a Hessian scaled to unit diagonal
RANK = 1e-11  # share of a variance that others must leave unexplained to count


def cholesky_stack(M: Array) -> Array:
    """Lower Cholesky factors of a stack of matrices, shape (R, m, m); NaN where not definite."""
    L = np.zeros_like(M)
    for j in range(M.shape[1]):
        column = M[:, j:, j] - np.einsum("rik,rk->ri", L[:, j:, :j], L[:, j, :j])
        L[:, j:, j] = column / np.sqrt(column[:, :1])
    return L


def semidefinite_cholesky(M: Array) -> Array:
    """Lower Cholesky factors of a stack of covariances; columns without a pivot of their own are zero."""
    L = np.zeros_like(M)
    for j in range(M.shape[1]):
        column = M[:, j:, j] - np.einsum("rik,rk->ri", L[:, j:, :j], L[:, j, :j])
        own = column[:, 0] > RANK * M[:, j, j]
        L[own, j:, j] = column[own] / np.sqrt(column[own, :1])
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
