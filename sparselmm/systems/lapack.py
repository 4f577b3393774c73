"""LAPACK's Cholesky routines in place on a corner of a square; scipy's own wrappers copy what is not contiguous.

A matrix is given as an array by rows whose columns are next to each other, of which the lower triangle counts: for
LAPACK, which reads by columns, that is an upper triangle. The routines come from `scipy.linalg.cython_lapack`.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numba.extending import get_cython_function_address

from sparselmm._types import Array


def _routine(name: str, arguments: int):
    address = get_cython_function_address("scipy.linalg.cython_lapack", name)
    return ctypes.CFUNCTYPE(None, ctypes.c_char_p, *[ctypes.c_void_p] * (arguments - 1))(address)


_potrf, _potri, _potrs = _routine("dpotrf", 5), _routine("dpotri", 5), _routine("dpotrs", 8)


def factorise(A: Array) -> bool:
    """Replace A by its Cholesky factor; whether it is positive definite.

    Parameters
    ----------
    A : ndarray, shape (n, n)
    """
    info = _integer(0)
    _potrf(b"U", _integer(len(A)), A.ctypes.data, _integer(_leading(A)), info)
    return info.contents.value == 0


def invert(L: Array) -> None:
    """Replace a Cholesky factor by the inverse of what was factorised; shape (n, n)."""
    _potri(b"U", _integer(len(L)), L.ctypes.data, _integer(_leading(L)), _integer(0))


def solve(L: Array, X: Array) -> None:
    """Replace the rows of X, shape (m, n), by solutions for them as right-hand sides."""
    size, many = _integer(len(L)), _integer(len(X))
    ends = X.ctypes.data, _integer(_leading(X)), _integer(0)
    _potrs(b"U", size, many, L.ctypes.data, _integer(_leading(L)), *ends)


def _integer(value: int):
    """A pointer to an integer that serves LAPACKs of 32 and of 64 bits (on little-endian machines)."""
    return ctypes.pointer(ctypes.c_int64(value))


def _leading(A: Array) -> int:
    """Entries from one row to the next."""
    rows, columns = A.strides
    if A.dtype != np.float64 or columns != A.itemsize:
        raise ValueError("expected rows of float64 without gaps")
    return max(rows // A.itemsize, A.shape[1], 1)
