"""One pass over the rows: sums of products by level and by pairs of levels."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def level_sums(codes, P, Q, n_levels):
    """Sums of p_i q_i' over the rows of each level.

    Parameters
    ----------
    codes : ndarray of int32, shape (n,)
    P : ndarray, shape (n, a)
    Q : ndarray, shape (n, b)
    n_levels : int

    Returns
    -------
    ndarray, shape (n_levels, a, b)
    """
    a, b = P.shape[1], Q.shape[1]
    out = np.zeros((n_levels, a, b))
    for i in range(len(codes)):
        block = out[codes[i]]
        for r in range(a):
            p = P[i, r]
            for c in range(b):
                block[r, c] += p * Q[i, c]
    return out


@njit(cache=True, nogil=True)
def counting_sort(codes, order, n_levels):
    """Stable order of the rows by level, starting from `order`.

    Returns
    -------
    pointers : ndarray of int64, shape (n_levels + 1,)
    sorted_order : ndarray of int32 or int64, shape (n,)
    """
    pointers = np.zeros(n_levels + 1, np.int64)
    for c in codes:
        pointers[c + 1] += 1
    for level in range(n_levels):
        pointers[level + 1] += pointers[level]
    place = pointers[:-1].copy()
    out = np.empty_like(order)
    for i in order:
        c = codes[i]
        out[place[c]] = i
        place[c] += 1
    return pointers, out


@njit(cache=True, nogil=True)
def pair_sums(pointers, order, other, P, Q):
    """Sums of p_i q_i' over the rows that share a pair of levels, in compressed rows.

    Parameters
    ----------
    pointers, order : see `counting_sort`; rows sorted by the first factor's level, then by `other`
    other : ndarray of int32, shape (n,)
        Levels of the second factor.
    P : ndarray, shape (n, a)
    Q : ndarray, shape (n, b)

    Returns
    -------
    indptr : ndarray of int64, shape (levels of the first factor + 1,)
    indices : ndarray of int32, shape (nnz,)
        Second levels met by each first level, increasing.
    values : ndarray, shape (nnz, a, b)
    """
    n_levels = len(pointers) - 1
    a, b = P.shape[1], Q.shape[1]
    indptr = np.zeros(n_levels + 1, np.int64)
    nnz = 0
    for level in range(n_levels):
        last = -1
        for k in range(pointers[level], pointers[level + 1]):
            if other[order[k]] != last:
                last = other[order[k]]
                nnz += 1
        indptr[level + 1] = nnz
    indices = np.empty(nnz, np.int32)
    values = np.zeros((nnz, a, b))
    at = -1
    for level in range(n_levels):
        last = -1
        for k in range(pointers[level], pointers[level + 1]):
            i = order[k]
            if other[i] != last:
                last = other[i]
                at += 1
                indices[at] = last
            for r in range(a):
                p = P[i, r]
                for c in range(b):
                    values[at, r, c] += p * Q[i, c]
    return indptr, indices, values
