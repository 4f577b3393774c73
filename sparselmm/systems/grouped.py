"""The grouped path: S is block-diagonal, one small dense block per group (none for a single factor)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import smallchol
from sparselmm.systems.blocks import BlockInverse, Layout, assemble, in_partners_order
from sparselmm.systems.leading import Leading
from sparselmm.threads import over_range


@dataclass(frozen=True, slots=True)
class GroupedFactor:
    """Cholesky factors of S, group by group."""

    store: GroupedStore
    G: Array
    flat: Array
    logdet: float

    def solve(self, R: Array) -> Array:
        """See `sparselmm.systems.base.SchurFactor`."""
        at, out = self.store.layout, np.empty_like(R)
        moved = R[at.permutation]
        over_range(
            smallchol.solve_components,
            len(at.order),
            self.flat,
            at.start,
            at.order,
            at.first,
            moved,
        )
        out[at.permutation] = moved
        return out

    def inverse(self) -> BlockInverse:
        """See `sparselmm.systems.base.SchurFactor`."""
        at = self.store.layout
        flat = np.empty_like(self.flat)
        over_range(smallchol.invert_components, len(at.order), self.flat, at.start, at.order, flat)
        return BlockInverse(self.store.leading, at, self.G, flat)


@dataclass(frozen=True, slots=True)
class GroupedStore:
    """Holds S as one dense square per connected component of the design."""

    leading: Leading
    layout: Layout
    name: str = "grouped"

    def factor(self, G: Array, A22: Array) -> GroupedFactor:
        """See `sparselmm.systems.base.Store`."""
        at, G = self.layout, in_partners_order(self.layout, G)
        flat, logdets = assemble(self.leading, at, G, A22), np.empty(len(at.order))
        over_range(smallchol.factor_components, len(at.order), at.start, at.order, flat, logdets)
        return GroupedFactor(self, G, flat, float(logdets.sum()))
