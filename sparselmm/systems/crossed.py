"""The crossed path: S fills in and is held as one dense square, factorised by LAPACK.

Where S is not full, its emptiest columns come first and are eliminated as a sparse head
(`sparselmm.systems.elimination`); LAPACK then sees the dense core only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import head
from sparselmm.systems import lapack
from sparselmm.systems.blocks import (
    SMALLEST_ROWS,
    BlockInverse,
    Layout,
    assemble,
    in_partners_order,
    make_layout,
)
from sparselmm.systems.elimination import Elimination
from sparselmm.systems.leading import Leading
from sparselmm.threads import over_range, side_by_side, split_range, wide_blas

SMALLEST_SIDES = 4  # right-hand sides that a thread should have at the least


@dataclass(frozen=True, slots=True)
class CrossedFactor:
    """Cholesky factor of S: panels of the head, and the core in the last rows and columns of a square."""

    store: CrossedStore
    G: Array
    panels: Array
    square: Array
    logdet: float

    def solve(self, R: Array) -> Array:
        """See `sparselmm.systems.base.SchurFactor`."""
        plan, n_head = self.store.elimination, self.store.n_head
        X = np.array((R if plan is None else R[plan.order]).T, order="C")

        def solve(begin: int, end: int) -> None:
            own = X[begin:end]
            if plan is not None:
                head.forward_head(*plan.supernodes, self.panels, own)
            lapack.solve(self.square[n_head:, n_head:], own[:, n_head:])
            if plan is not None:
                head.backward_head(*plan.supernodes, self.panels, own)

        ranges = split_range(len(X), len(X) // SMALLEST_SIDES)
        side_by_side([partial(solve, *ends) for ends in ranges])
        if plan is None:
            return np.ascontiguousarray(X.T)
        out = np.empty(R.shape)
        out[plan.order] = X.T
        return out

    def inverse(self) -> BlockInverse:
        """See `sparselmm.systems.base.SchurFactor`."""
        store, n_head = self.store, self.store.n_head
        inverse = np.empty_like(self.square)

        def copy(first: int, last: int) -> None:
            inverse[first:last, n_head:last] = self.square[first:last, n_head:last]

        over_range(copy, len(inverse), smallest=SMALLEST_ROWS)
        core = inverse[n_head:, n_head:]
        with wide_blas(len(core) ** 3):
            lapack.invert(core)
        if store.elimination is not None:
            top, *subtrees = store.elimination.tasks
            args = (*store.elimination.supernodes, self.panels, inverse)
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

    @property
    def n_head(self) -> int:
        """Columns before the dense core."""
        return 0 if self.elimination is None else self.elimination.n_head

    def factor(self, G: Array, A22: Array) -> CrossedFactor:
        """See `sparselmm.systems.base.Store`."""
        n, plan, n_head = self.leading.n_S, self.elimination, self.n_head
        G = in_partners_order(self.layout, G)
        S = assemble(self.leading, self.layout, G, A22).reshape(n, n)
        logdet, panels = 0.0, np.empty(0)
        if plan is not None:
            panels = plan.panels()
            logdet = head.factor_head(S, *plan.supernodes, panels)
        core = S[n_head:, n_head:]
        with wide_blas(len(core) ** 3 / 3):
            positive = lapack.factorise(core)
        logdet += 2.0 * float(np.log(np.diagonal(core)).sum()) if positive else np.nan
        return CrossedFactor(self, G, panels, S, logdet)


def make_crossed(lead: Leading, plan: Elimination | None = None) -> CrossedStore:
    """The crossed store of a design, its columns eliminated as planned (all as a dense core when not)."""
    labels = np.zeros(lead.n_S, dtype=np.int64)
    return CrossedStore(lead, make_layout(lead, labels, None if plan is None else plan.order), plan)
