"""The grouped path: S is block-diagonal, one small dense block per group (none for a single factor)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import smallchol
from sparselmm.systems.blocks import BlockInverse, Layout, assemble, component_labels, make_layout
from sparselmm.systems.leading import Leading


@dataclass(frozen=True, slots=True)
class GroupedFactor:
    """Cholesky factors of S, group by group."""

    store: GroupedStore
    G: Array
    flat: Array
    logdet: float

    def solve(self, R: Array) -> Array:
        """See `sparselmm.systems.base.SchurFactor`."""
        at = self.store.layout
        out = np.empty_like(R)
        out[at.permutation] = smallchol.solve_components(
            self.flat, at.start, at.order, at.first, R[at.permutation]
        )
        return out

    def inverse(self) -> BlockInverse:
        """See `sparselmm.systems.base.SchurFactor`."""
        at = self.store.layout
        flat = smallchol.invert_components(self.flat, at.start, at.order)
        return BlockInverse(self.store.leading, at, self.G, flat)


@dataclass(frozen=True, slots=True)
class GroupedStore:
    """Holds S as one dense square per connected component of the design."""

    leading: Leading
    layout: Layout
    name: str = "grouped"

    def factor(self, G: Array, A22: Array) -> GroupedFactor:
        """See `sparselmm.systems.base.Store`."""
        flat = assemble(self.leading, self.layout, G, A22)
        logdets = smallchol.factor_components(flat, self.layout.start, self.layout.order)
        return GroupedFactor(self, G, flat, float(logdets.sum()))


def make_grouped(lead: Leading) -> GroupedStore:
    """The grouped store of a design."""
    return GroupedStore(lead, make_layout(component_labels(lead)))

