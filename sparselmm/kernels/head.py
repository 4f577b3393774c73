"""Cholesky factor, solves and inverse for the sparse head of a matrix that is kept in one dense square.

The first columns of S are eliminated in supernodes: runs J of columns with the same rows R below. What is left, the
dense core, is LAPACK's. With B = L_RJ,

    L_JJ L_JJ' = S_JJ     B = S_RJ L_JJ^-T     S_RR -= B B'
    Y = B L_JJ^-1     Z_RJ = -Z_RR Y     Z_JJ = (L_JJ L_JJ')^-1 - Y' Z_RJ      (Takahashi, for Z = S^-1)

The products are BLAS's; only S_RR and Z_RR are gathered from lower triangles and scattered to them.

Supernodes
----------
``begin`` are their first columns, ``pointers, rows`` the rows below them. Row k of the panels, shape
(head, widest + tallest), keeps column k of the factor: its row of L_JJ, and from column `widest` on that of B'.
"""

from __future__ import annotations

import numpy as np

from sparselmm.kernels.compile import inner, outer

TILE = 32


@inner
def _supernode(s, begin, pointers, rows, widest, panels):
    """First column, R, L_JJ and B' of a supernode, views."""
    first, w, R = begin[s], begin[s + 1] - begin[s], rows[pointers[s] : pointers[s + 1]]
    own = panels[first : first + w]
    return first, R, own[:, :w], own[:, widest : widest + len(R)]


@inner
def _factor_supernode(D, B):
    """L_JJ in place of S_JJ, B' in place of S_RJ'; log-determinant, NaN where it is not positive definite."""
    logdet = 0.0
    for k in range(len(D)):
        for j in range(k):
            for i in range(k, len(D)):
                D[i, k] -= D[k, j] * D[i, j]
            for i in range(B.shape[1]):
                B[k, i] -= D[k, j] * B[j, i]
        if not D[k, k] > 0.0:
            return np.nan
        logdet += np.log(D[k, k])
        scale = 1.0 / np.sqrt(D[k, k])
        for i in range(k, len(D)):
            D[i, k] *= scale
        for i in range(B.shape[1]):
            B[k, i] *= scale
    return logdet


@outer
def factor_head(S, begin, pointers, rows, widest, panels):
    """Eliminate the head.

    Parameters
    ----------
    S : ndarray, shape (n, n)
        Lower triangle; the rows and columns of the core become its Schur complement.
    begin, pointers, rows, widest : supernodes
    panels : ndarray, shape (head, widest + tallest)
        Written to.

    Returns
    -------
    float
        Log-determinant of the head; NaN where it is not positive definite.
    """
    logdet = 0.0
    for s in range(len(begin) - 1):
        first, R, D, B = _supernode(s, begin, pointers, rows, widest, panels)
        for i in range(len(D)):
            for k in range(len(D)):
                D[i, k] = S[first + i, first + k]
        for i in range(len(R)):
            for k in range(len(D)):
                B[k, i] = S[R[i], first + k]
        logdet += _factor_supernode(D, B)
        if np.isnan(logdet):
            panels[first:] = np.nan
            break
        whole = B.copy()
        update = np.dot(whole.T, whole)
        for i in range(len(R)):
            row = S[R[i]]
            for j in range(i + 1):
                row[R[j]] -= update[i, j]
    return logdet


@outer
def forward_head(begin, pointers, rows, widest, panels, X):
    """First part of L^-1 x in place: the head solved for and taken from the core, for every row x of X (m, n)."""
    for s in range(len(begin) - 1):
        first, R, D, B = _supernode(s, begin, pointers, rows, widest, panels)
        for x in X:
            for k in range(len(D)):
                for j in range(k):
                    x[first + k] -= D[k, j] * x[first + j]
                x[first + k] /= D[k, k]
                for i in range(len(R)):
                    x[R[i]] -= B[k, i] * x[first + k]


@outer
def backward_head(begin, pointers, rows, widest, panels, X):
    """Last part of L^-T x in place, the core being solved for already, for every row x of X (m, n)."""
    for s in range(len(begin) - 2, -1, -1):
        first, R, D, B = _supernode(s, begin, pointers, rows, widest, panels)
        for x in X:
            for k in range(len(D) - 1, -1, -1):
                total = x[first + k]
                for j in range(k + 1, len(D)):
                    total -= D[j, k] * x[first + j]
                for i in range(len(R)):
                    total -= B[k, i] * x[R[i]]
                x[first + k] = total / D[k, k]


@inner
def _gather(Z, R):
    """Symmetric Z_RR from a lower triangle."""
    out = np.empty((len(R), len(R)))
    for i in range(len(R)):
        row = Z[R[i]]
        for j in range(i + 1):
            out[i, j] = row[R[j]]
    for top in range(0, len(R), TILE):
        for left in range(top, len(R), TILE):
            for i in range(top, min(top + TILE, len(R))):
                for j in range(max(i + 1, left), min(left + TILE, len(R))):
                    out[i, j] = out[j, i]
    return out


@inner
def _add_inverse(L, out):
    """Add (L L')^-1 to the lower triangle of `out`."""
    X = np.zeros((len(L), len(L)))
    for k in range(len(L)):
        X[k, k] = 1.0 / L[k, k]
        for j in range(k):
            total = 0.0
            for i in range(j, k):
                total += L[k, i] * X[i, j]
            X[k, j] = -total * X[k, k]
    for i in range(len(L)):
        for j in range(i + 1):
            for k in range(i, len(L)):
                out[i, j] += X[k, i] * X[k, j]


@outer
def invert_head(which, begin, pointers, rows, widest, panels, Z):
    """S^-1 on the pattern of the head's factor, next to the core's inverse.

    Parameters
    ----------
    which : ndarray of int64
        Supernodes; what they depend on comes first, here or in earlier calls.
    begin, pointers, rows, widest : supernodes
    panels : ndarray, shape (head, widest + tallest)
        From `factor_head`.
    Z : ndarray, shape (n, n)
        Holds the lower triangle of the core's inverse; the head's entries are written to it.
    """
    for s in which:
        first, R, D, B = _supernode(s, begin, pointers, rows, widest, panels)
        Y = B.copy()
        for k in range(len(D) - 1, -1, -1):
            scale = 1.0 / D[k, k]
            for i in range(len(R)):
                Y[k, i] *= scale
            for j in range(k):
                for i in range(len(R)):
                    Y[j, i] -= D[k, j] * Y[k, i]
        X = np.dot(Y, _gather(Z, R))
        corner = np.dot(X, Y.T)
        _add_inverse(D, corner)
        for i in range(len(D)):
            for j in range(i + 1):
                Z[first + i, first + j] = corner[i, j]
        for i in range(len(R)):
            for k in range(len(D)):
                Z[R[i], first + k] = -X[k, i]
