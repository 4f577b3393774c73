"""The crossed path: S fills in and is held as one dense matrix, factorised by LAPACK."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from sparselmm._types import Array
from sparselmm.systems.blocks import BlockInverse, Layout, assemble, make_layout
from sparselmm.systems.leading import Leading
from sparselmm.threads import wide_blas


@dataclass(frozen=True, slots=True)
class CrossedFactor:
    """Dense Cholesky factor of S (in LAPACK's eyes the upper one of a column-major matrix)."""

    store: CrossedStore
    G: Array
    chol: Array
    logdet: float

    def solve(self, R: Array) -> Array:
        """See `sparselmm.systems.base.SchurFactor`."""
        x, _ = dpotrs(self.chol, R, lower=0)
        return np.ascontiguousarray(x)

    def inverse(self) -> BlockInverse:
        """See `sparselmm.systems.base.SchurFactor`."""
        with wide_blas(len(self.chol) ** 3):
            inverse, _ = dpotri(self.chol, lower=0)
        return BlockInverse(self.store.leading, self.store.layout, self.G, inverse.T.reshape(-1))


@dataclass(frozen=True, slots=True)
class CrossedStore:
    """Holds S as one dense square."""

    leading: Leading
    layout: Layout
    name: str = "crossed"

    def factor(self, G: Array, A22: Array) -> CrossedFactor:
        """See `sparselmm.systems.base.Store`."""
        n = self.leading.n_S
        S = assemble(self.leading, self.layout, G, A22).reshape(n, n)
        with wide_blas(n**3 / 3):
            chol, info = dpotrf(S.T, lower=0, clean=0, overwrite_a=1)
        pivots = np.diagonal(chol)
        logdet = 2.0 * float(np.log(pivots).sum()) if info == 0 else np.nan
        return CrossedFactor(self, G, chol, logdet)


def make_crossed(lead: Leading) -> CrossedStore:
    """The crossed store of a design."""
    return CrossedStore(lead, make_layout(lead, np.zeros(lead.n_S, dtype=np.int64)))
