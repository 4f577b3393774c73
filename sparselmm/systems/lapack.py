"""LAPACK's Cholesky routines in place on a corner of a square; scipy's own wrappers copy what is not contiguous.

A matrix is given as an array by rows whose columns are next to each other, of which the lower triangle counts: for
LAPACK, which reads by columns, that is an upper triangle. The routines come from `scipy.linalg.cython_blas` and
`cython_lapack`.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numba.extending import get_cython_function_address

from sparselmm._types import Array

SMALL = 128  # order up to which a triangle is inverted in one piece


def _routine(library: str, name: str, arguments: int):
    address = get_cython_function_address(f"scipy.linalg.cython_{library}", name)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(address)


_potrf, _potrs = _routine("lapack", "dpotrf", 5), _routine("lapack", "dpotrs", 8)
_trtri, _lauum = _routine("lapack", "dtrtri", 6), _routine("lapack", "dlauum", 5)
_trmm = _routine("blas", "dtrmm", 11)


def factorise(A: Array) -> bool:
    """Replace A by its Cholesky factor; whether it is positive definite.

    Parameters
    ----------
    A : ndarray, shape (n, n)
    """
    info = ctypes.c_int64(0)
    _potrf(b"U", _integer(len(A)), A.ctypes.data, _leading(A), ctypes.byref(info))
    return info.value == 0


def invert(L: Array) -> None:
    """Replace a Cholesky factor by the inverse of what was factorised; shape (n, n)."""
    _invert_triangle(L)
    _lauum(b"U", _integer(len(L)), L.ctypes.data, _leading(L), _integer(0))


def solve(L: Array, X: Array) -> None:
    """Replace the rows of X, shape (m, n), by solutions for them as right-hand sides."""
    sizes, info = (_integer(len(L)), _integer(len(X))), _integer(0)
    _potrs(b"U", *sizes, L.ctypes.data, _leading(L), X.ctypes.data, _leading(X), info)


def _invert_triangle(L: Array) -> None:
    """Replace a triangle by its inverse, halves first, as most of the work is then products.

    OpenBLAS's dtrtri takes nearly twice the time on one thread.
    """
    n, at = len(L), L.ctypes.data
    if n <= SMALL:
        _trtri(b"U", b"N", _integer(n), at, _leading(L), _integer(0))
        return
    half = n // 2
    first, last, below = L[:half, :half], L[half:, half:], L[half:, :half]
    _invert_triangle(first)
    _invert_triangle(last)
    shape, ends = (_integer(half), _integer(n - half)), (below.ctypes.data, _leading(below))
    _trmm(b"L", b"U", b"N", b"N", *shape, _real(-1.0), first.ctypes.data, _leading(first), *ends)
    _trmm(b"R", b"U", b"N", b"N", *shape, _real(1.0), last.ctypes.data, _leading(last), *ends)


def _real(value: float):
    return ctypes.byref(ctypes.c_double(value))


def _integer(value: int):
    """A pointer to an integer that serves LAPACKs of 32 and of 64 bits (on little-endian machines)."""
    return ctypes.byref(ctypes.c_int64(value))


def _leading(A: Array):
    """Entries from one row to the next, as a pointer."""
    rows, columns = A.strides
    if A.size and (A.dtype != np.float64 or columns != A.itemsize or rows < 0):
        raise ValueError("expected rows of float64 without gaps")
    return _integer(max(rows // A.itemsize, A.shape[1], 1))
