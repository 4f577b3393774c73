"""Columns of S that each leading level meets: one list per level, merged, transposed, put in another order.

Arrays
------
``indptr, cols``         the partners of each leading level, sorted within a level
``colptr, rows, pos``    the same entries by column: the leading level and the place in ``cols``
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def append_partners(indptr, indices, width, offset, free, cols, place):
    """Add one factor's levels to the lists.

    Parameters
    ----------
    indptr : ndarray of int64, shape (levels + 1,)
    indices : ndarray of int32, shape (entries,)
        Levels of that factor by leading level.
    width, offset : int
        Its coefficients per level, and its first column.
    free : ndarray of int64, shape (levels,)
        Ends of the lists so far; moved on.
    cols : ndarray of int32
        Written to.
    place : ndarray of int64, shape (entries,)
        Where in `cols` each block starts; written to.
    """
    for level in range(len(free)):
        at = free[level]
        for k in range(indptr[level], indptr[level + 1]):
            place[k] = at
            for c in range(width):
                cols[at + c] = offset + indices[k] * width + c
            at += width
        free[level] = at


@njit(cache=True, nogil=True)
def transpose_pattern(indptr, cols, n):
    """Entries by column: pointers (n+1,), the row and the position of each entry.

    Rows stay sorted within a column. O(nnz).
    """
    colptr = np.zeros(n + 1, np.int64)
    for c in cols:
        colptr[c + 1] += 1
    for c in range(n):
        colptr[c + 1] += colptr[c]
    rows = np.empty(cols.size, np.int32)
    pos = np.empty(cols.size, np.int64)
    free = colptr[:-1].copy()
    for row in range(indptr.size - 1):
        for p in range(indptr[row], indptr[row + 1]):
            t = free[cols[p]]
            rows[t] = row
            pos[t] = p
            free[cols[p]] = t + 1
    return colptr, rows, pos


@njit(cache=True, nogil=True)
def order_partners(order, indptr, colptr, rows, pos):
    """Partners of each leading level after column ``order[k]`` has moved to place k, sorted.

    Taking the columns in their new order fills every level's list in order, so nothing is sorted.

    Returns
    -------
    cols, entry : (nnz,) int32, int64
        The partners, and where each of them was before.
    colptr, rows, pos
        The new arrays by column.
    """
    nnz = rows.size
    cols, entry = np.empty(nnz, np.int32), np.empty(nnz, np.int64)
    out_ptr = np.zeros(order.size + 1, np.int64)
    out_rows, out_pos = np.empty(nnz, np.int32), np.empty(nnz, np.int64)
    free = indptr[:-1].copy()
    e = 0
    for k in range(order.size):
        for t in range(colptr[order[k]], colptr[order[k] + 1]):
            p = free[rows[t]]
            free[rows[t]] = p + 1
            cols[p] = k
            entry[p] = pos[t]
            out_rows[e] = rows[t]
            out_pos[e] = p
            e += 1
        out_ptr[k + 1] = e
    return cols, entry, out_ptr, out_rows, out_pos
