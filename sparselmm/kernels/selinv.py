"""Selected inverse: the entries of S^-1 on the pattern of its Cholesky factor.

With S = L L', J the columns of a supernode and R the rows below it, Takahashi's equations read

    Y = L_RJ L_JJ^-1      Z_RJ = -Z_RR Y      Z_JJ = (L_JJ L_JJ')^-1 - Y' Z_RJ

for Z = S^-1. All of Z_RR lies in the panels of ancestors, so the roots come first and each panel
of L is overwritten by the panel of Z: no further storage beside one front. The cost is two to
three times that of the factorisation, nearly all of it in matrix products.

Panels
------
Supernode s keeps, from ``panel[s]`` on, L_JJ' (w x w, upper) and L_RJ' (w x r), both C order;
afterwards Z_JJ (full) and Z_JR. ``begin`` are the first columns, ``rowptr, rows`` the rows below,
``owner`` the supernode of each column.
"""

import numpy as np
from numba import njit, prange

__all__ = ["invert_panels", "invert_subtrees", "load_panels", "read_inverse"]

_BLAS_FLOPS = 8192
_TILE = 32


@njit(cache=True, nogil=True, parallel=True)
def load_panels(bounds, begin, rowptr, rows, panel, L_ptr, L_ind, L_val, out):
    """Copy a factor held by columns into panels; runs ``bounds`` of supernodes are tasks.

    Entries of L outside the panels (zeros of another blocking) are skipped.
    """
    for task in prange(bounds.size - 1):
        where = np.full(L_ptr.size - 1, -1, np.int64)
        for s in range(bounds[task], bounds[task + 1]):
            a0, a1, r0, r1 = begin[s], begin[s + 1], rowptr[s], rowptr[s + 1]
            w, r = a1 - a0, r1 - r0
            for e in range(r0, r1):
                where[rows[e]] = e - r0
            out[panel[s] : panel[s + 1]] = 0.0
            for a in range(a0, a1):
                diagonal = panel[s] + (a - a0) * w - a0
                below = panel[s] + w * w + (a - a0) * r
                for e in range(L_ptr[a], L_ptr[a + 1]):
                    row = L_ind[e]
                    if row < a1:
                        out[diagonal + row] = L_val[e]
                    elif where[row] >= 0:
                        out[below + where[row]] = L_val[e]
            for e in range(r0, r1):
                where[rows[e]] = -1


@njit(cache=True, nogil=True)
def _find(rows, low, high, row):
    """Position of ``row`` in the sorted ``rows[low:high]``, where it is known to be."""
    while low < high:
        middle = (low + high) // 2
        if rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def _locate(wanted, rows, low, high, out):
    """Places of the sorted ``wanted`` in the sorted ``rows[low:high]``, counted from ``low``."""
    at = low
    search = 8 * wanted.size < high - low
    for j in range(wanted.size):
        if search:
            at = _find(rows, at, high, wanted[j])
        else:
            while rows[at] < wanted[j]:
                at += 1
        out[j] = at - low


@njit(cache=True, nogil=True)
def _mirror(G):
    """Copy the upper triangle of G to the lower one, tile by tile."""
    r = G.shape[0]
    for i0 in range(0, r, _TILE):
        for j0 in range(i0, r, _TILE):
            for i in range(i0, min(i0 + _TILE, r)):
                for j in range(max(i + 1, j0), min(j0 + _TILE, r)):
                    G[j, i] = G[i, j]


@njit(cache=True, nogil=True)
def _gather_front(R, begin, owner, rowptr, rows, panel, Z, rel, G):
    """G <- Z_RR from the panels of the ancestors that own the rows R."""
    r = R.size
    i = 0
    while i < r:
        s = owner[R[i]]
        a0, w = begin[s], begin[s + 1] - begin[s]
        height = rowptr[s + 1] - rowptr[s]
        end = i
        while end < r and R[end] < begin[s + 1]:
            end += 1
        _locate(R[end:], rows, rowptr[s], rowptr[s + 1], rel)
        for t in range(i, end):
            k = R[t] - a0
            diagonal = Z[panel[s] + k * w : panel[s] + (k + 1) * w]
            low = panel[s] + w * w + k * height
            below = Z[low : low + height]
            for j in range(t, end):
                G[t, j] = diagonal[R[j] - a0]
            for j in range(end, r):
                G[t, j] = below[rel[j - end]]
        i = end
    _mirror(G)


@njit(cache=True, nogil=True)
def _invert_upper(U, X):
    """X <- U^-1 for an upper triangle U (whose lower part is not read)."""
    w = U.shape[0]
    for i in range(w - 1, -1, -1):
        scale = 1.0 / U[i, i]
        for j in range(w):
            X[i, j] = 0.0
        for k in range(i + 1, w):
            u = U[i, k] * scale
            for j in range(k, w):
                X[i, j] -= u * X[k, j]
        X[i, i] = scale


@njit(cache=True, nogil=True)
def _multiply(A, B, out, tiny):
    """Write A B to ``out``, by loops where a call of BLAS would cost more than the product."""
    if not tiny:
        np.dot(A, B, out)
        return
    m, k, n = A.shape[0], A.shape[1], B.shape[1]
    for i in range(m):
        for j in range(n):
            out[i, j] = 0.0
        for q in range(k):
            x = A[i, q]
            for j in range(n):
                out[i, j] += x * B[q, j]


@njit(cache=True, nogil=True)
def _invert_supernode(D, B, G, X, Y, W):
    """Takahashi's step: D = L_JJ', B = L_RJ' become Z_JJ, Z_JR; X, Y, W are work space."""
    w, r = B.shape
    tiny = w * max(w, r) * max(w, r) < _BLAS_FLOPS
    _invert_upper(D, X)
    if tiny:
        for i in range(w):
            for j in range(w):
                d = 0.0
                for k in range(max(i, j), w):
                    d += X[i, k] * X[j, k]
                D[i, j] = d
    else:
        np.dot(X, X.T, D)
    if r == 0:
        return
    _multiply(X, B, Y, tiny)
    _multiply(Y, G, B, tiny)
    for i in range(w):
        for j in range(r):
            B[i, j] = -B[i, j]
    if tiny:
        for i in range(w):
            for j in range(w):
                d = 0.0
                for k in range(r):
                    d += B[i, k] * Y[j, k]
                D[i, j] -= d
    else:
        np.dot(B, Y.T, W)
        for i in range(w):
            for j in range(w):
                D[i, j] -= W[i, j]


@njit(cache=True, nogil=True)
def invert_panels(order, begin, owner, rowptr, rows, panel, Z):
    """Overwrite the panels of L by those of L'^-1 L^-1 for the supernodes ``order``.

    Ancestors come before descendants, in ``order`` or in earlier calls.
    """
    top_w, top_r = 0, 0
    for s in order:
        top_w = max(top_w, begin[s + 1] - begin[s])
        top_r = max(top_r, rowptr[s + 1] - rowptr[s])
    front = np.empty(top_r * top_r)
    rel = np.empty(top_r, np.int64)
    y = np.empty(top_w * top_r)
    x = np.empty(top_w * top_w)
    z = np.empty(top_w * top_w)
    for s in order:
        w, r, at = begin[s + 1] - begin[s], rowptr[s + 1] - rowptr[s], panel[s]
        G = front[: r * r].reshape((r, r))
        R = rows[rowptr[s] : rowptr[s + 1]]
        _gather_front(R, begin, owner, rowptr, rows, panel, Z, rel, G)
        _invert_supernode(
            Z[at : at + w * w].reshape((w, w)),
            Z[at + w * w : at + w * (w + r)].reshape((w, r)),
            G,
            x[: w * w].reshape((w, w)),
            y[: w * r].reshape((w, r)),
            z[: w * w].reshape((w, w)),
        )


@njit(cache=True, nogil=True, parallel=True)
def invert_subtrees(order, bounds, begin, owner, rowptr, rows, panel, Z):
    """`invert_panels` for the tasks ``order[bounds[t] : bounds[t+1]]``, in parallel."""
    for t in prange(bounds.size - 1):
        invert_panels(order[bounds[t] : bounds[t + 1]], begin, owner, rowptr, rows, panel, Z)


@njit(cache=True, nogil=True, parallel=True)
def read_inverse(bounds, ptr, ind, begin, rowptr, rows, panel, Z, out):
    """Entries of S^-1 on a pattern inside that of L (lower triangle by column, sorted)."""
    for task in prange(bounds.size - 1):
        rel = np.empty(ptr.size, np.int64)
        for s in range(bounds[task], bounds[task + 1]):
            a0, a1 = begin[s], begin[s + 1]
            w, r = a1 - a0, rowptr[s + 1] - rowptr[s]
            for a in range(a0, a1):
                diagonal = panel[s] + (a - a0) * w - a0
                below = panel[s] + w * w + (a - a0) * r
                e = ptr[a]
                while e < ptr[a + 1] and ind[e] < a1:
                    out[e] = Z[diagonal + ind[e]]
                    e += 1
                _locate(ind[e : ptr[a + 1]], rows, rowptr[s], rowptr[s + 1], rel)
                for k in range(ptr[a + 1] - e):
                    out[e + k] = Z[below + rel[k]]
