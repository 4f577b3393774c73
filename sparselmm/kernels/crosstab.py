"""One pass over the rows: sums of products by level and by pairs of levels."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from sparselmm.kernels.compile import UNROLLED, outer


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


def factor_sums(s: int) -> Any:
    """The kernel for factors with s coefficients per level, compiled when first called.

    Parameters of the kernel
    ------------------------
    begin, end : int
        Range of levels; the rows of others are passed over.
    codes : ndarray of int32, shape (n,)
    P, Q : ndarray, shape (n, s)
    X : ndarray, shape (n, m)
    PQ, PX : ndarray, shape (levels, s, s) and (levels, s, m)
        Sums of p_i q_i' and p_i x_i' over the rows of each level, written to.
    """
    return _factor_sums(s if s <= UNROLLED else 0)


@cache
def _factor_sums(fixed: int) -> Any:
    @outer
    def sums(begin, end, codes, P, Q, X, PQ, PX):
        s = fixed if fixed else P.shape[1]
        PQ[begin:end] = 0.0
        PX[begin:end] = 0.0
        for i in range(len(codes)):
            level = codes[i]
            if begin <= level < end:
                for r in range(s):
                    for c in range(s):
                        PQ[level, r, c] += P[i, r] * Q[i, c]
                    for c in range(X.shape[1]):
                        PX[level, r, c] += P[i, r] * X[i, c]

    return sums


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
def pair_counts(first, second, n_first, n_second):
    """How often each pair of levels occurs, in compressed rows by the first factor's levels.

    Two counting sorts carry the codes along, so that no pass reads out of order.

    Parameters
    ----------
    first, second : ndarray of int32, shape (n,)

    Returns
    -------
    indptr, indices, values
        As `pair_sums` for columns of ones.
    """
    n = len(first)
    place = np.zeros(n_second + 1, np.int64)
    for c in second:
        place[c + 1] += 1
    for level in range(n_second):
        place[level + 1] += place[level]
    ends = place[1:].copy()
    by_second = np.empty(n, np.int32)
    for i in range(n):
        by_second[place[second[i]]] = first[i]
        place[second[i]] += 1
    pointers = np.zeros(n_first + 1, np.int64)
    for c in first:
        pointers[c + 1] += 1
    for level in range(n_first):
        pointers[level + 1] += pointers[level]
    free = pointers[:-1].copy()
    met = np.empty(n, np.int32)
    at = 0
    for level in range(n_second):
        while at < ends[level]:
            c = by_second[at]
            met[free[c]] = level
            free[c] += 1
            at += 1
    indptr = np.zeros(n_first + 1, np.int64)
    values = np.empty((n, 1, 1))
    nnz = 0
    for level in range(n_first):
        last = -1
        for k in range(pointers[level], pointers[level + 1]):
            if met[k] != last:
                last = met[k]
                met[nnz] = last
                values[nnz, 0, 0] = 0.0
                nnz += 1
            values[nnz - 1, 0, 0] += 1.0
        indptr[level + 1] = nnz
    return indptr, met[:nnz].copy(), values[:nnz].copy()


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
