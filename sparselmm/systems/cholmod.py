"""CHOLMOD through scikit-sparse: the only file that knows it.

A matrix is given as the lower triangle by column (``ptr`` int64, ``ind`` int32, rows sorted).
The permutation is ours to apply: `order` proposes one, `analyse` and `factorise` take matrices that
are already in elimination order, so that values never move between two factorisations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix

from sparselmm._types import Array
from sparselmm.errors import MemoryRefusedError, PathError

__all__ = ["ORDERINGS", "Symbolic", "analyse", "available", "columns", "factorise", "order"]

ORDERINGS = ("amd", "metis")

_INSTALL = """\
The sparse path needs CHOLMOD, and scikit-sparse could not be imported ({reason}).
Expected: scikit-sparse >= 0.4.16, < 0.5, built against SuiteSparse, with OpenBLAS for its speed.
Install SuiteSparse, then the package:
    apt install libsuitesparse-dev libopenblas-dev      (Debian, Ubuntu)
    brew install suite-sparse openblas                  (macOS)
    conda install -c conda-forge "scikit-sparse<0.5"    (conda: this alone is enough)
    pip install "sparselmm[cholmod]"
or choose another path with path="auto"."""

_TOO_LARGE = """\
CHOLMOD ran out of memory for the factor of a Schur complement of order {n:,}.
Expected: a factor that stays sparse; this one fills in.
Use path="auto", group rare levels, or fit on a machine with more memory."""


def available() -> bool:
    """Whether scikit-sparse can be imported in a version that is understood here.

    Examples
    --------
    >>> isinstance(available(), bool)
    True
    """
    try:
        _library()
    except PathError:
        return False
    return True


def _library() -> Any:
    """The module ``sksparse.cholmod`` with the interface of 0.4, else the install commands."""
    try:
        from sksparse import cholmod
    except ImportError as error:
        raise PathError(_INSTALL.format(reason=error)) from error
    if not hasattr(cholmod, "analyze"):
        raise PathError(_INSTALL.format(reason="found a version with the interface of 0.5"))
    return cholmod


@dataclass(frozen=True, slots=True)
class Symbolic:
    """A pattern that CHOLMOD has analysed; it never holds numbers, so it can be shared.

    Attributes
    ----------
    factor
        Symbolic ``sksparse.cholmod.Factor``, copied for every factorisation.
    indptr, indices
        The pattern in the integer type that CHOLMOD uses for it.
    """

    factor: Any
    indptr: Array
    indices: Array

    def __reduce__(self) -> tuple:
        """Pickle the pattern; CHOLMOD analyses it again on the other side."""
        return _analyse, (self.indptr, self.indices)


def order(ptr: Array, ind: Array, method: str) -> Array | None:
    """Fill-reducing, postordered permutation: place k takes column ``order[k]``.

    Returns
    -------
    ndarray of int64, shape (n,), or None
        None where SuiteSparse was built without ``method`` (one of `ORDERINGS`).
    """
    library = _library()
    try:
        factor = library.analyze(
            _matrix(np.zeros(len(ind)), ptr, ind, np.int32),
            mode="simplicial",
            ordering_method=method,
        )
    except library.CholmodError:
        return None
    return factor.P().astype(np.int64)


def analyse(ptr: Array, ind: Array, *, entries: int) -> Symbolic:
    """Analyse a pattern that is in elimination order.

    Parameters
    ----------
    ptr, ind : ndarray
        Lower triangle by column.
    entries : int
        Predicted entries of the factor: decides between 32-bit and 64-bit integers.
    """
    wide = 2 * max(entries, len(ind)) > np.iinfo(np.int32).max
    integer = np.int64 if wide else np.int32
    return _analyse(ptr.astype(integer), ind.astype(integer, copy=False))


def _analyse(indptr: Array, indices: Array) -> Symbolic:
    """Analyse a pattern in the integer type of its indices."""
    pattern = _matrix(np.zeros(len(indices)), indptr, indices, indices.dtype)
    factor = _library().analyze(pattern, mode="auto", ordering_method="natural")
    return Symbolic(factor, indptr, indices)


def factorise(symbolic: Symbolic, values: Array) -> tuple[Any | None, float]:
    """Factor of the matrix with ``values`` on the pattern, and its log-determinant.

    None and NaN if the matrix is not positive definite. Memory and time are those of a
    factorisation in place, but earlier factors stay valid.
    """
    library = _library()
    matrix = _matrix(values, symbolic.indptr, symbolic.indices, symbolic.indices.dtype)
    try:
        factor = symbolic.factor.cholesky(matrix)
    except library.CholmodNotPositiveDefiniteError:
        return None, np.nan
    except (library.CholmodOutOfMemoryError, library.CholmodTooLargeError) as error:
        raise MemoryRefusedError(_TOO_LARGE.format(n=matrix.shape[0])) from error
    pivots = factor.D()
    # L D L' of a matrix that is not positive definite may exist.
    if not pivots.min(initial=np.inf) > 0.0:
        return None, np.nan
    return factor, float(np.log(pivots).sum())


def columns(factor: Any) -> tuple[Array, Array, Array]:
    """L by column, zeros of CHOLMOD's blocking included: pointers (int64), rows, values."""
    L = factor.L()
    return L.indptr.astype(np.int64), L.indices, L.data


def _matrix(values: Array, ptr: Array, ind: Array, integer: type | np.dtype) -> csc_matrix:
    """A scipy view of the arrays (its constructor would copy 64-bit indices to 32 bits)."""
    n = len(ptr) - 1
    matrix = csc_matrix((n, n))
    matrix.data = values
    matrix.indices = ind.astype(integer, copy=False)
    matrix.indptr = ptr.astype(integer, copy=False)
    matrix.has_sorted_indices = True
    return matrix
