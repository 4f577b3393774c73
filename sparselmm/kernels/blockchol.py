"""The leading factor's part of the Cholesky factor of A, level by level.

A = [[A11, A12], [A21, A22]] with A11 block-diagonal, one s x s block per level of the leading factor.
Its block Cholesky factor is

    L11 L11' = A11          (block-diagonal: `factor`)
    L21 = A21 L11^-T        (the pattern of A21: `scale_panel`; held transposed: row l is G_l = L11_l^-1 A12_l)
    L22 L22' = A22 - L21 L21'                                             (the Schur complement, `scatter`)

and a solve with A is one sweep down (`forward`, `add_partners`), a solve with S, and one up (`backward`).

Levels are independent of each other: every kernel works on a range of them, ``begin`` to ``end``, and writes to
its last argument, so that ranges can run side by side (`add_partners`: into an array of its own each).
`level_kernels(s)` compiles for one block size, which lets the compiler unroll the loops over coefficients (three to
five times faster for s = 2), `sweep_kernels(s, m)` for the number of right-hand sides too (twice as fast for m = 3).

At an extreme T rounding can make a pivot zero or NaN: divisions follow IEEE rules, so that the value is not finite
and the step is taken for too long, instead of ending the fit with an exception.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sparselmm.kernels.compile import UNROLLED


class LevelKernels(NamedTuple):
    """Compiled kernels for one block size."""

    factor: Any
    scale_panel: Any
    invert: Any


class SweepKernels(NamedTuple):
    """Compiled kernels for one block size and number of right-hand sides."""

    apply_transpose: Any
    forward: Any
    add_partners: Any
    backward: Any


def level_kernels(s: int) -> LevelKernels:
    """Kernels for blocks of order s, compiled when first called."""
    return _make_levels(s if s <= UNROLLED else 0)


def sweep_kernels(s: int, m: int) -> SweepKernels:
    """Kernels for blocks of order s and m right-hand sides, compiled when first called."""
    return _make_sweeps(s if s <= UNROLLED else 0, m if m <= UNROLLED else 0)


@cache
def _make_levels(fixed: int) -> LevelKernels:
    """Kernels for one block size; 0 reads the size from the arrays."""

    @njit(cache=True, nogil=True, error_model="numpy")
    def factor(begin, end, D, T, L, roots):
        """L[l] L[l]' = T' D[l] T + I and the root of its determinant; D, L (levels, s, s), T (s, s) lower."""
        s = fixed if fixed else T.shape[0]
        for level in range(begin, end):
            pivots = 1.0
            for a in range(s):
                for b in range(a + 1):
                    total = 1.0 if a == b else 0.0
                    for i in range(a, s):
                        inner = 0.0
                        for j in range(b, s):
                            inner += D[level, i, j] * T[j, b]
                        total += T[i, a] * inner
                    for c in range(b):
                        total -= L[level, a, c] * L[level, b, c]
                    L[level, a, b] = np.sqrt(total) if a == b else total / L[level, b, b]
                for b in range(a + 1, s):
                    L[level, a, b] = 0.0
                pivots *= L[level, a, a]
            roots[level] = pivots

    @njit(cache=True, nogil=True, error_model="numpy")
    def scale_panel(begin, end, L, T, indptr, values, G):
        """G_l = L_l^-1 T' C_l on the pattern of the cross-products; values, G (nnz, s)."""
        s = fixed if fixed else T.shape[0]
        for level in range(begin, end):
            for k in range(indptr[level], indptr[level + 1]):
                for a in range(s):
                    total = 0.0
                    for b in range(a, s):
                        total += T[b, a] * values[k, b]
                    for b in range(a):
                        total -= L[level, a, b] * G[k, b]
                    G[k, a] = total / L[level, a, a]

    @njit(cache=True, nogil=True, error_model="numpy")
    def invert(begin, end, L, F):
        """L_l^-T (I + F_l) L_l^-1 in place of F_l, for symmetric F_l = G_l S^-1 G_l'."""
        s = fixed if fixed else L.shape[1]
        for level in range(begin, end):
            for c in range(s):
                F[level, c, c] += 1.0
            for a in range(s - 1, -1, -1):
                scale = 1.0 / L[level, a, a]
                for c in range(s):
                    total = F[level, a, c]
                    for b in range(a + 1, s):
                        total -= L[level, b, a] * F[level, b, c]
                    F[level, a, c] = total * scale
            for c in range(s - 1, -1, -1):
                scale = 1.0 / L[level, c, c]
                for a in range(s):
                    total = F[level, a, c]
                    for b in range(c + 1, s):
                        total -= F[level, a, b] * L[level, b, c]
                    F[level, a, c] = total * scale

    return LevelKernels(factor, scale_panel, invert)


@cache
def _make_sweeps(fixed: int, width: int) -> SweepKernels:
    """Kernels for one block size and number of right-hand sides; 0 reads either from the arrays."""

    @njit(cache=True, nogil=True, error_model="numpy")
    def apply_transpose(begin, end, T, R, out):
        """out[l] = T' R[l]; R, out (levels, s, m)."""
        s = fixed if fixed else T.shape[0]
        m = width if width else R.shape[2]
        for level in range(begin, end):
            for a in range(s):
                for c in range(m):
                    total = 0.0
                    for b in range(a, s):
                        total += T[b, a] * R[level, b, c]
                    out[level, a, c] = total

    @njit(cache=True, nogil=True, error_model="numpy")
    def forward(begin, end, L, R, W):
        """W[l] = L_l^-1 R[l]; R, W (levels, s, m)."""
        s = fixed if fixed else L.shape[1]
        m = width if width else R.shape[2]
        for level in range(begin, end):
            for a in range(s):
                scale = 1.0 / L[level, a, a]  # most of the time here is divisions'
                for c in range(m):
                    total = R[level, a, c]
                    for b in range(a):
                        total -= L[level, a, b] * W[level, b, c]
                    W[level, a, c] = total * scale

    @njit(cache=True, nogil=True, error_model="numpy")
    def add_partners(begin, end, indptr, cols, G, W, out):
        """L21 W of levels begin to end, added to out (n_S, m)."""
        s = fixed if fixed else W.shape[1]
        m = width if width else W.shape[2]
        for level in range(begin, end):
            for k in range(indptr[level], indptr[level + 1]):
                for b in range(s):
                    for c in range(m):
                        out[cols[k], c] += G[k, b] * W[level, b, c]

    @njit(cache=True, nogil=True, error_model="numpy")
    def backward(begin, end, L, indptr, cols, G, X, W):
        """L_l^-T (W[l] - G_l X) in place of W[l]; X (n_S, m) solves the Schur complement's equations."""
        s = fixed if fixed else L.shape[1]
        m = width if width else W.shape[2]
        for level in range(begin, end):
            for k in range(indptr[level], indptr[level + 1]):
                for b in range(s):
                    for c in range(m):
                        W[level, b, c] -= G[k, b] * X[cols[k], c]
            for a in range(s - 1, -1, -1):
                scale = 1.0 / L[level, a, a]
                for c in range(m):
                    total = W[level, a, c]
                    for b in range(a + 1, s):
                        total -= L[level, b, a] * W[level, b, c]
                    W[level, a, c] = total * scale

    return SweepKernels(apply_transpose, forward, add_partners, backward)
