"""Products of matrices with many rows, in ranges of rows side by side."""

from __future__ import annotations

import math

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels.products import STRIP, strip_products, strip_rows
from sparselmm.threads import over_range, sum_over_range

# Numbers read, above which another thread is worth waking in products of few columns.
LIGHT = 400_000
NARROW = 128  # entries of a product up to which rows are taken in strips


def tall_product(a: Array, b: Array) -> Array:
    """a'b for many rows of both.

    BLAS is two to four times faster on few columns when the rows come in strips, and when it does not see that a'a
    is symmetric. Few rows do without the kernels, which a fresh process would have to load.
    """
    if len(a) <= STRIP:
        return a.T @ b
    if a.shape[1] * b.shape[1] > NARROW:
        return sum_over_range(lambda begin, end: a[begin:end].T @ b[begin:end], len(a))
    left, right = np.ascontiguousarray(a), np.ascontiguousarray(b)

    def strips(begin: int, end: int) -> Array:
        total = np.empty((a.shape[1], b.shape[1]))
        strip_products(begin, end, left, right, total)
        return total

    return sum_over_range(strips, len(a), max(LIGHT // (a.shape[1] + b.shape[1]), 1))


def level_products(left: Array, right: Array) -> Array:
    """Sum over levels of all products of two entries: (levels, s, m) and (levels, t, k) to (s, m, t, k)."""
    a = left.reshape(len(left), math.prod(left.shape[1:]))
    b = a if left is right else right.reshape(len(right), math.prod(right.shape[1:]))
    return tall_product(a, b).reshape(*left.shape[1:], *right.shape[1:])


def wide_product(a: Array, b: Array, last: Array | None = None) -> Array:
    """a b for many rows of a, with `last` added to its last column; in strips as well, for the same reason."""
    if len(a) <= STRIP:
        few = a @ b
        if last is not None:
            few[:, -1] += last
        return few
    out = np.empty((len(a), b.shape[1]))
    left, right = np.ascontiguousarray(a), np.ascontiguousarray(b)

    def fill(begin: int, end: int) -> None:
        strip_rows(begin, end, left, right, out)
        if last is not None:
            out[begin:end, -1] += last[begin:end]

    over_range(fill, len(a), smallest=max(LIGHT // sum(b.shape), 1))
    return out
