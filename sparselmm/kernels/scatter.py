"""The Schur complement S = A22 - L21 L21' and its adjoint, in block-dense storage.

S is held as one dense square per connected component of the design (one component: a crossed design; many:
nested groups). Column a of S is row `local[a]` of a square of order `size[a]` that starts at `base[a]` of a flat
array, so that S[a, b] sits at base[a] + local[a] * size[a] + local[b]; only b <= a is written. Rows are built
one after the other (Gustavson): row a gathers L21[a, :] L21' through the leading levels that a meets, so writes
stay within one row in cache and rows are independent of each other.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True, parallel=True)
def assemble(indptr, cols, colptr, rows, positions, G, A22_ptr, A22_cols, A22, base, local, size, length):
    """Lower triangles of S, flat.

    Parameters
    ----------
    indptr, cols, colptr, rows, positions : pattern of L21 and its transposed view
    G : ndarray, shape (nnz, s)
        L21, row l of its transpose being G_l.
    A22_ptr, A22_cols, A22 : lower triangle of A22 in compressed rows, diagonal included
    base, local, size : ndarray of int64, shape (n_S,)
    length : int
        Length of the flat array.

    Returns
    -------
    ndarray, shape (length,)
        Above the diagonals the entries are zero.
    """
    n_S, s = len(base), G.shape[1]
    S = np.zeros(length)
    for a in prange(n_S):
        row = S[base[a] + local[a] * size[a] : base[a] + (local[a] + 1) * size[a]]
        for k in range(A22_ptr[a], A22_ptr[a + 1]):
            row[local[A22_cols[k]]] += A22[k]
        for k in range(colptr[a], colptr[a + 1]):
            here, first = positions[k], indptr[rows[k]]
            for r in range(s):
                g = G[here, r]
                for j in range(first, here + 1):
                    row[local[cols[j]]] -= g * G[j, r]
    return S


@njit(cache=True, nogil=True, parallel=True)
def partner_forms(indptr, cols, G, inverse, base, local, size):
    """G_l S^-1 G_l' for every leading level: the adjoint of `assemble`.

    Parameters
    ----------
    indptr, cols, G : L21 as in `assemble`
    inverse : ndarray, shape (length,)
        Lower triangles of S^-1, flat.
    base, local, size : as in `assemble`

    Returns
    -------
    ndarray, shape (levels, s, s)
    """
    levels, s = len(indptr) - 1, G.shape[1]
    out = np.zeros((levels, s, s))
    for level in prange(levels):
        block = out[level]
        for i in range(indptr[level], indptr[level + 1]):
            a = cols[i]
            row = inverse[base[a] + local[a] * size[a] : base[a] + (local[a] + 1) * size[a]]
            for c in range(s):
                total = 0.5 * row[local[a]] * G[i, c]
                for j in range(indptr[level], i):
                    total += row[local[cols[j]]] * G[j, c]
                for r in range(s):
                    block[r, c] += G[i, r] * total
        for r in range(s):
            for c in range(r + 1):
                total = block[r, c] + block[c, r]
                block[r, c] = total
                block[c, r] = total
    return out
