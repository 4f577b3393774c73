"""The leading factor's part of the Cholesky factor of A, level by level.

A = [[A11, A12], [A21, A22]] with A11 block-diagonal, one s x s block per level of the leading factor.
Its block Cholesky factor is

    L11 L11' = A11          (block-diagonal, `factor_levels`)
    L21 = A21 L11^-T        (the pattern of A21, `scale_panel`; held transposed: row l is G_l = L11_l^-1 A12_l)
    L22 L22' = A22 - L21 L21'                                             (the Schur complement, `scatter`)

and a solve with A is one sweep down (`forward_levels`, `subtract_partners`), a solve with S, and one up
(`backward_levels`). Levels are independent of each other: the outer loops run in parallel.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True, parallel=True)
def factor_levels(D, T):
    """Cholesky factors of T' D_l T + I.

    Parameters
    ----------
    D : ndarray, shape (levels, s, s)
    T : ndarray, shape (s, s)
        Lower triangular.

    Returns
    -------
    L : ndarray, shape (levels, s, s)
        Lower triangular factors (the upper triangles hold zeros).
    logdets : ndarray, shape (levels,)
        log|T' D_l T + I|.
    """
    levels, s = D.shape[0], D.shape[1]
    L = np.zeros((levels, s, s))
    logdets = np.empty(levels)
    for level in prange(levels):
        block = L[level]
        for a in range(s):
            for b in range(a + 1):
                total = 1.0 if a == b else 0.0
                for i in range(a, s):
                    inner = 0.0
                    for j in range(b, s):
                        inner += D[level, i, j] * T[j, b]
                    total += T[i, a] * inner
                for c in range(b):
                    total -= block[a, c] * block[b, c]
                block[a, b] = np.sqrt(total) if a == b else total / block[b, b]
        pivots = 1.0
        for a in range(s):
            pivots *= block[a, a]
        logdets[level] = 2.0 * np.log(pivots)
    return L, logdets


@njit(cache=True, nogil=True, parallel=True)
def apply_transpose(T, R):
    """T' applied to every level: out[l] = T' R[l].

    Parameters
    ----------
    T : ndarray, shape (s, s)
        Lower triangular.
    R : ndarray, shape (levels, s, m)
    """
    levels, s, m = R.shape
    out = np.empty((levels, s, m))
    for level in prange(levels):
        for a in range(s):
            for c in range(m):
                total = 0.0
                for b in range(a, s):
                    total += T[b, a] * R[level, b, c]
                out[level, a, c] = total
    return out


@njit(cache=True, nogil=True, parallel=True)
def scale_panel(L, T, indptr, values):
    """G_l = L_l^-1 T' C_l: the panel L21 on the pattern of the cross-products.

    Parameters
    ----------
    L : ndarray, shape (levels, s, s)
    T : ndarray, shape (s, s)
    indptr : ndarray of int64, shape (levels + 1,)
    values : ndarray, shape (nnz, s)
        Columns of C_l, already multiplied by the other factors' T from the right.

    Returns
    -------
    ndarray, shape (nnz, s)
    """
    levels, s = L.shape[0], L.shape[1]
    out = np.empty_like(values)
    for level in prange(levels):
        for k in range(indptr[level], indptr[level + 1]):
            for a in range(s):
                total = 0.0
                for b in range(a, s):
                    total += T[b, a] * values[k, b]
                for b in range(a):
                    total -= L[level, a, b] * out[k, b]
                out[k, a] = total / L[level, a, a]
    return out


@njit(cache=True, nogil=True, parallel=True)
def forward_levels(L, R):
    """L_l^-1 R[l] for every level; R has shape (levels, s, m)."""
    levels, s, m = R.shape
    out = np.empty((levels, s, m))
    for level in prange(levels):
        for a in range(s):
            for c in range(m):
                total = R[level, a, c]
                for b in range(a):
                    total -= L[level, a, b] * out[level, b, c]
                out[level, a, c] = total / L[level, a, a]
    return out


@njit(cache=True, nogil=True, parallel=True)
def subtract_partners(colptr, rows, positions, G, W, R):
    """R - L21 W, one row per column of S.

    Parameters
    ----------
    colptr, rows, positions : the transposed pattern (see `sparselmm.systems.leading.Leading`)
    G : ndarray, shape (nnz, s)
    W : ndarray, shape (levels, s, m)
    R : ndarray, shape (n_S, m)
    """
    n_S, m = R.shape
    s = W.shape[1]
    out = R.copy()
    for a in prange(n_S):
        for k in range(colptr[a], colptr[a + 1]):
            g, level = positions[k], rows[k]
            for b in range(s):
                for c in range(m):
                    out[a, c] -= G[g, b] * W[level, b, c]
    return out


@njit(cache=True, nogil=True, parallel=True)
def backward_levels(L, indptr, cols, G, W, X):
    """L_l^-T (W[l] - G_l X) for every level.

    Parameters
    ----------
    L : ndarray, shape (levels, s, s)
    indptr, cols : pattern of G
    G : ndarray, shape (nnz, s)
    W : ndarray, shape (levels, s, m)
    X : ndarray, shape (n_S, m)
        Solution of the Schur complement's equations.
    """
    levels, s, m = W.shape
    out = W.copy()
    for level in prange(levels):
        for k in range(indptr[level], indptr[level + 1]):
            for b in range(s):
                for c in range(m):
                    out[level, b, c] -= G[k, b] * X[cols[k], c]
        for a in range(s - 1, -1, -1):
            for c in range(m):
                total = out[level, a, c]
                for b in range(a + 1, s):
                    total -= L[level, b, a] * out[level, b, c]
                out[level, a, c] = total / L[level, a, a]
    return out


@njit(cache=True, nogil=True, parallel=True)
def invert_levels(L, F):
    """L_l^-T (I + F_l) L_l^-1: the leading diagonal blocks of A^-1.

    Parameters
    ----------
    L : ndarray, shape (levels, s, s)
    F : ndarray, shape (levels, s, s)
        G_l S^-1 G_l'; symmetric.
    """
    levels, s = L.shape[0], L.shape[1]
    out = np.empty((levels, s, s))
    for level in prange(levels):
        block = out[level]
        for a in range(s):
            for c in range(s):
                block[a, c] = F[level, a, c] + (1.0 if a == c else 0.0)
        for c in range(s):
            for a in range(s - 1, -1, -1):
                for b in range(a + 1, s):
                    block[a, c] -= L[level, b, a] * block[b, c]
                block[a, c] /= L[level, a, a]
        for a in range(s):
            for c in range(s - 1, -1, -1):
                for b in range(c + 1, s):
                    block[a, c] -= block[a, b] * L[level, b, c]
                block[a, c] /= L[level, c, c]
    return out
