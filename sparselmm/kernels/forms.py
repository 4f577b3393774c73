"""Entries and products of S^-1 that single rows of the data ask for.

Pairs are given by index; -1 stands for no level and gives zero. S^-1 held on a pattern only answers NaN for pairs
off it. Kernels work on the rows ``begin`` to ``end`` and write to their last argument.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _dense(flat, base, local, size, a, b):
    """S^-1[a, b] from lower triangles of squares; zero across components."""
    if base[a] != base[b]:
        return 0.0
    high, low = max(local[a], local[b]), min(local[a], local[b])
    return flat[base[a] + high * size[a] + low]


@njit(cache=True, nogil=True)
def _sparse(place, ptr, ind, values, a, b):
    """S^-1[a, b] from a lower triangle by column in elimination order; NaN off the pattern."""
    high, low = max(place[a], place[b]), min(place[a], place[b])
    first, last = ptr[low], ptr[low + 1] - 1
    while first < last:
        middle = (first + last) // 2
        if ind[middle] < high:
            first = middle + 1
        else:
            last = middle
    return values[first] if ind[first] == high else np.nan


@njit(cache=True, nogil=True)
def dense_entries(begin, end, flat, base, local, size, a, b, out):
    """S^-1[a_i, b_i] for every i; the layout is that of `sparselmm.systems.blocks`."""
    for i in range(begin, end):
        known = a[i] >= 0 and b[i] >= 0
        out[i] = _dense(flat, base, local, size, a[i], b[i]) if known else 0.0


@njit(cache=True, nogil=True)
def sparse_entries(begin, end, place, ptr, ind, values, a, b, out):
    """S^-1[a_i, b_i] for every i; the pattern is that of `sparselmm.systems.sparse`."""
    for i in range(begin, end):
        known = a[i] >= 0 and b[i] >= 0
        out[i] = _sparse(place, ptr, ind, values, a[i], b[i]) if known else 0.0


@njit(cache=True, nogil=True)
def dense_products(begin, end, indptr, cols, G, flat, base, local, size, levels, columns, out):
    """S^-1[a_i, :] G_l' for leading levels l_i and columns a_i of S; out (m, s)."""
    for i in range(begin, end):
        level, a = levels[i], columns[i]
        out[i] = 0.0
        if level >= 0 and a >= 0:
            for k in range(indptr[level], indptr[level + 1]):
                entry = _dense(flat, base, local, size, a, cols[k])
                for c in range(G.shape[1]):
                    out[i, c] += entry * G[k, c]


@njit(cache=True, nogil=True)
def sparse_products(begin, end, indptr, cols, G, place, ptr, ind, values, levels, columns, out):
    """`dense_products` where S^-1 is held on a pattern."""
    for i in range(begin, end):
        level, a = levels[i], columns[i]
        out[i] = 0.0
        if level >= 0 and a >= 0:
            for k in range(indptr[level], indptr[level + 1]):
                entry = _sparse(place, ptr, ind, values, a, cols[k])
                for c in range(G.shape[1]):
                    out[i, c] += entry * G[k, c]


@njit(cache=True, nogil=True)
def reduced_rows(begin, end, indptr, cols, G, levels, W, columns, values, out):
    """Row i of out (m, n_S), zero before: z_2 - G_l'w.

    Parameters
    ----------
    indptr, cols, G : L21 by leading level
    levels : ndarray of int64, shape (m,)
    W : ndarray, shape (m, s)
        L_l^-1 z_1.
    columns, values : ndarray, shape (m, r)
        Entries of z_2.
    """
    for i in range(begin, end):
        for c in range(columns.shape[1]):
            if columns[i, c] >= 0:
                out[i, columns[i, c]] += values[i, c]
        if levels[i] >= 0:
            for k in range(indptr[levels[i]], indptr[levels[i] + 1]):
                for c in range(G.shape[1]):
                    out[i, cols[k]] -= G[k, c] * W[i, c]
