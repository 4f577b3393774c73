"""The crossed path: S fills in and is held as one dense square, factorised by LAPACK.

Where S is not full, its emptiest columns come first and are eliminated as a sparse head
(`sparselmm.systems.elimination`); LAPACK then sees the dense core only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs

from sparselmm._types import Array
from sparselmm.kernels import head
from sparselmm.systems.blocks import BlockInverse, Layout, assemble, make_layout
from sparselmm.systems.elimination import Elimination
from sparselmm.systems.leading import Leading
from sparselmm.threads import side_by_side, wide_blas


@dataclass(frozen=True, slots=True)
class CrossedFactor:
    """Cholesky factor of S: panels of the head, and the core (in LAPACK's eyes an upper factor, by columns)."""

    store: CrossedStore
    G: Array
    panels: Array
    core: Array
    logdet: float

    def solve(self, R: Array) -> Array:
        """See `sparselmm.systems.base.SchurFactor`."""
        plan = self.store.elimination
        if plan is None:
            return np.ascontiguousarray(dpotrs(self.core, R, lower=0)[0])
        X, out = np.ascontiguousarray(R[plan.order].T), np.empty(R.shape)
        head.forward_head(*plan.supernodes, self.panels, X)
        X[:, plan.n_head :] = dpotrs(self.core, X[:, plan.n_head :].T, lower=0)[0].T
        head.backward_head(*plan.supernodes, self.panels, X)
        out[plan.order] = X.T
        return out

    def inverse(self) -> BlockInverse:
        """See `sparselmm.systems.base.SchurFactor`."""
        plan, store = self.store.elimination, self.store
        with wide_blas(len(self.core) ** 3):
            core = dpotri(self.core, lower=0)[0].T
        if plan is None:
            return BlockInverse(store.leading, store.layout, self.G, core.reshape(-1))
        inverse = np.empty((len(plan.order), len(plan.order)))
        inverse[:, : plan.n_head] = np.nan  # where the head has no entry
        inverse[plan.n_head :, plan.n_head :] = core
        top, *subtrees = plan.tasks
        args = (*plan.supernodes, self.panels, inverse)
        head.invert_head(top, *args)
        side_by_side([partial(head.invert_head, tree, *args) for tree in subtrees])
        return BlockInverse(store.leading, store.layout, self.G, inverse.reshape(-1))


@dataclass(frozen=True, slots=True)
class CrossedStore:
    """Holds S as one dense square."""

    leading: Leading
    layout: Layout
    elimination: Elimination | None
    name: str = "crossed"

    def factor(self, G: Array, A22: Array) -> CrossedFactor:
        """See `sparselmm.systems.base.Store`."""
        n, plan = self.leading.n_S, self.elimination
        G = G[self.layout.partners.entry]
        S = assemble(self.leading, self.layout, G, A22).reshape(n, n)
        n_head, logdet, panels = 0, 0.0, np.empty(0)
        if plan is not None:
            n_head, panels = plan.n_head, plan.panels()
            logdet = head.factor_head(S, *plan.supernodes, panels)
        with wide_blas((n - n_head) ** 3 / 3):
            core, info = dpotrf(S[n_head:, n_head:].T, lower=0, clean=0, overwrite_a=1)
        pivots = np.diagonal(core)
        logdet += 2.0 * float(np.log(pivots).sum()) if info == 0 else np.nan
        return CrossedFactor(self, G, panels, core, logdet)


def make_crossed(lead: Leading, plan: Elimination | None = None) -> CrossedStore:
    """The crossed store of a design, its columns eliminated as planned (all as a dense core when not)."""
    labels = np.zeros(lead.n_S, dtype=np.int64)
    return CrossedStore(lead, make_layout(lead, labels, None if plan is None else plan.order), plan)
