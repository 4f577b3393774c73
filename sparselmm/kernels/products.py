"""Products of matrices with many rows and few columns."""

from __future__ import annotations

import numpy as np
from numba import njit

STRIP = 8_192  # rows at a time


@njit(cache=True, nogil=True)
def strip_products(begin, end, a, b, total):
    """a'b over the rows begin to end, in strips that stay in cache; a (n, m), b (n, k), total (m, k)."""
    part = np.empty(total.shape)
    total[:] = 0.0
    for first in range(begin, end, STRIP):
        last = min(first + STRIP, end)
        np.dot(a[first:last].T, b[first:last], part)
        total += part


@njit(cache=True, nogil=True)
def strip_rows(begin, end, a, b, out):
    """Rows begin to end of a b in strips; a (n, m), b (m, k), out (n, k) is written to."""
    for first in range(begin, end, STRIP):
        last = min(first + STRIP, end)
        np.dot(a[first:last], b, out[first:last])
