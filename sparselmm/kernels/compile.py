"""How kernels are compiled."""

from __future__ import annotations

from typing import Any

from numba import njit

outer: Any = njit(cache=True, nogil=True)
# Only what Python calls needs wrappers, which take a good part of the compilation.
inner: Any = njit(cache=True, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)  # pyright: ignore
