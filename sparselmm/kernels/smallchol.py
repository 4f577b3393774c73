"""Many small dense symmetric positive definite systems at once, held flat (see `scatter`).

The squares hold lower triangles; component c has order `order[c]`, starts at `start[c]` of the flat array, and
its rows are `first[c]` … `first[c] + order[c] - 1` of the right-hand sides. Every kernel works on the components
``begin`` to ``end``.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def factor_components(begin, end, start, order, S, logdets):
    """Cholesky factors in place of the lower triangles of S; log|S_c| in logdets (components,)."""
    for c in range(begin, end):
        m = order[c]
        L = S[start[c] : start[c] + m * m].reshape(m, m)
        total = 0.0
        for i in range(m):
            for j in range(i + 1):
                inner = L[i, j]
                for k in range(j):
                    inner -= L[i, k] * L[j, k]
                if i == j:
                    L[i, i] = np.sqrt(inner)
                    total += np.log(L[i, i])
                else:
                    L[i, j] = inner / L[j, j]
        logdets[c] = 2.0 * total


@njit(cache=True, nogil=True, error_model="numpy")
def solve_components(begin, end, L, start, order, first, R):
    """S^-1 R in place of R (n_S, m); the rows of a component lie next to each other."""
    for c in range(begin, end):
        m = order[c]
        block = L[start[c] : start[c] + m * m].reshape(m, m)
        x = R[first[c] : first[c] + m]
        for col in range(R.shape[1]):
            for i in range(m):
                for k in range(i):
                    x[i, col] -= block[i, k] * x[k, col]
                x[i, col] /= block[i, i]
            for i in range(m - 1, -1, -1):
                for k in range(i + 1, m):
                    x[i, col] -= block[k, i] * x[k, col]
                x[i, col] /= block[i, i]


@njit(cache=True, nogil=True, error_model="numpy")
def invert_components(begin, end, L, start, order, out):
    """Lower triangles of S^-1 (the upper ones mirror them), from the Cholesky factors, in out."""
    for c in range(begin, end):
        m = order[c]
        block = L[start[c] : start[c] + m * m].reshape(m, m)
        inverse = out[start[c] : start[c] + m * m].reshape(m, m)
        for col in range(m):
            for i in range(col, m):
                total = 1.0 if i == col else 0.0
                for k in range(col, i):
                    total -= block[i, k] * inverse[k, col]
                inverse[i, col] = total / block[i, i]
            for i in range(m - 1, col - 1, -1):
                total = inverse[i, col]
                for k in range(i + 1, m):
                    total -= block[k, i] * inverse[k, col]
                inverse[i, col] = total / block[i, i]
        for i in range(m):
            for j in range(i):
                inverse[j, i] = inverse[i, j]
