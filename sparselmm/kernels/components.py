"""Connected components of a bipartite pattern."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _root(parent, a):
    """Representative of a's component; halves the way there."""
    while parent[a] != a:
        parent[a] = parent[parent[a]]
        a = parent[a]
    return a


@njit(cache=True, nogil=True)
def label_components(indptr, cols, extra_ptr, extra_cols, n):
    """Component of every column, numbered in the order of their first columns.

    Columns belong together when one row of ``indptr, cols`` holds both, or when row a of
    ``extra_ptr, extra_cols`` (one row per column) holds b.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    parent, apart = np.arange(n), n
    for row in range(len(indptr) - 1):
        if apart == 1:
            break
        if indptr[row] == indptr[row + 1]:
            continue
        a = _root(parent, cols[indptr[row]])
        for k in range(indptr[row] + 1, indptr[row + 1]):
            b = _root(parent, cols[k])
            if a != b:
                parent[max(a, b)] = min(a, b)
                a = min(a, b)
                apart -= 1
    for a in range(n):
        for k in range(extra_ptr[a], extra_ptr[a + 1]):
            first, second = _root(parent, a), _root(parent, extra_cols[k])
            parent[max(first, second)] = min(first, second)
    labels = np.empty(n, np.int64)
    count = 0
    for a in range(n):
        root = _root(parent, a)
        if root == a:
            labels[a] = count
            count += 1
        else:
            labels[a] = labels[root]
    return labels
