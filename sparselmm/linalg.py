"""Linear algebra on small matrices, by numpy alone: scipy.linalg costs more to import than a small fit takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sparselmm._types import Array

TINY = np.finfo(float).tiny


def cholesky_lower(M: Array) -> Array:
    """L with L L' = M; NaN where M is not positive definite."""
    try:
        return np.linalg.cholesky(M)
    except np.linalg.LinAlgError:
        return np.full_like(M, np.nan)


def solve_lower(L: Array, B: Array) -> Array:
    """L^-1 B for lower triangular L."""
    return B / L[0, 0] if len(L) == 1 else np.linalg.solve(L, B)


def solve_lower_transposed(L: Array, B: Array) -> Array:
    """L^-T B for lower triangular L."""
    return np.linalg.solve(L.T, B)


def weighted_sum(blocks: Array, weights: Array | None = None) -> Array:
    """Sum over the first axis; as a product, since numpy sums rows of a few entries slowly."""
    weights = np.ones(len(blocks)) if weights is None else weights
    return (weights @ blocks.reshape(len(blocks), -1)).reshape(blocks.shape[1:])


class Spectrum(NamedTuple):
    """Eigenvalues and -vectors of a symmetric matrix scaled to unit diagonal.

    Attributes
    ----------
    scale : ndarray, shape (m,)
        Roots of the diagonal.
    values : ndarray, shape (m,)
        Increasing.
    vectors : ndarray, shape (m, m)
    """

    scale: Array
    values: Array
    vectors: Array

    def solve(self, g: Array, tolerance: float = 1e-10) -> Array:
        """Minimum-norm solution of H x = g, in the scaled coordinates."""
        inverse = np.where(self.values > tolerance, 1.0 / np.maximum(self.values, tolerance), 0.0)
        return self.vectors @ (inverse * (self.vectors.T @ (g / self.scale))) / self.scale


def spectrum(H: Array) -> Spectrum:
    """Spectrum of a symmetric matrix after scaling its diagonal to ones (or minus ones)."""
    scale = np.sqrt(np.maximum(np.abs(H.diagonal()), TINY))
    values, vectors = np.linalg.eigh(H / scale / scale[:, None])
    return Spectrum(scale, values, vectors)
