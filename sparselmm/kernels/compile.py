"""How kernels are compiled."""

from __future__ import annotations

from typing import Any

from numba import njit

# Division by zero gives infinities: at an extreme T the value is then not finite and the step is taken for too long.
OUTER: Any = {"cache": True, "nogil": True, "error_model": "numpy"}
# Only what Python calls needs wrappers, which take a good part of the compilation.
INNER: Any = {**OUTER, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
outer, inner = njit(**OUTER), njit(**INNER)
UNROLLED = 4  # largest number of coefficients per level with kernels of its own, loops unrolled
