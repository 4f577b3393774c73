"""The sparse path: S stays sparse, is factorised by CHOLMOD and inverted where it is needed.

Everything that depends on the pattern alone is a `SparsePlan`, made once: the pattern of S, a
fill-reducing order, the supernodes of the factor. All arrays are then in elimination order, so a
theta costs values only: gather S column by column, factorise, and, when asked, copy L to panels
and run the selected inverse over them (see `sparselmm.kernels.selinv`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import selinv, sparse_schur
from sparselmm.systems import cholmod
from sparselmm.systems.cholmod import available
from sparselmm.systems.leading import Leading
from sparselmm.systems.sparse_plan import (
    SparseAnalysis,
    SparsePlan,
    estimate_entries,
    plan_sparse,
)
from sparselmm.threads import wide_blas

__all__ = [
    "SparseAnalysis",
    "SparseFactor",
    "SparseInverse",
    "SparsePlan",
    "SparseStore",
    "available",
    "estimate_entries",
    "make_sparse",
    "plan_sparse",
]


@dataclass(frozen=True, slots=True)
class SparseInverse:
    """S^-1 on the pattern of S, lower triangle by column in elimination order."""

    store: SparseStore
    G: Array
    values: Array

    def diagonal_blocks(self) -> tuple[Array, ...]:
        """See `sparselmm.systems.base.SchurInverse`."""
        at, blocks, offset = self.store.plan.pattern, [], 0
        for levels, s in self.store.leading.shapes:
            columns = at.place[offset : offset + levels * s].reshape(levels, s)
            high = np.maximum(columns[:, :, None], columns[:, None, :])
            low = np.minimum(columns[:, :, None], columns[:, None, :])
            # A level's columns stay together, so they come first in each of its columns.
            blocks.append(self.values[at.ptr[low] + high - low])
            offset += levels * s
        return tuple(blocks)

    def partner_forms(self) -> Array:
        """See `sparselmm.systems.base.SchurInverse`."""
        at = self.store.plan.pattern
        half = np.empty_like(self.G)
        half[at.pos] = sparse_schur.partner_products(
            at.chunks, at.ptr, at.ind, self.values,
            at.indptr, at.cols, self.G, at.colptr, at.rows, at.pos,
        )  # fmt: skip
        return sparse_schur.sum_partner_products(at.indptr, self.G, half)


@dataclass(frozen=True, slots=True)
class SparseFactor:
    """Sparse Cholesky factor of S; ``factor`` is None (and logdet NaN) if S is not positive."""

    store: SparseStore
    G: Array
    factor: Any | None
    logdet: float

    def solve(self, R: Array) -> Array:
        """See `sparselmm.systems.base.SchurFactor`."""
        if self.factor is None:
            return np.full(R.shape, np.nan)
        place = self.store.plan.pattern.place
        moved = np.empty(R.shape, order="F")
        moved[place] = R
        return np.ascontiguousarray(self.factor(moved)[place])

    def inverse(self) -> SparseInverse:
        """See `sparselmm.systems.base.SchurFactor`."""
        plan = self.store.plan
        if self.factor is None:
            return SparseInverse(self.store, self.G, np.full(len(plan.pattern.ind), np.nan))
        return SparseInverse(self.store, self.G, _selected_inverse(plan, self.factor))


@dataclass(frozen=True, slots=True)
class SparseStore:
    """Holds S as a sparse lower triangle."""

    leading: Leading
    plan: SparsePlan
    name: str = "sparse"

    def factor(self, G: Array, A22: Array) -> SparseFactor:
        """See `sparselmm.systems.base.Store`."""
        at = self.plan.pattern
        moved = G[at.entry]
        values = np.zeros(len(at.ind))
        values[at.a22] = A22
        sparse_schur.fill_schur(
            at.chunks, at.ptr, at.ind, at.indptr, at.cols, moved, at.colptr, at.rows, at.pos, values
        )
        with wide_blas(self.plan.analysis.factor_flops):
            factor, logdet = cholmod.factorise(self.plan.symbolic, values)
        return SparseFactor(self, moved, factor, logdet)


def make_sparse(lead: Leading, plan: SparsePlan | None = None) -> SparseStore:
    """The sparse store of a design.

    Parameters
    ----------
    lead : Leading
    plan : SparsePlan, optional
        What `plan_sparse` has already found for ``lead``.

    Raises
    ------
    PathError
        Without scikit-sparse 0.4; the message has the install commands.
    """
    return SparseStore(lead, plan or plan_sparse(lead))


def _selected_inverse(plan: SparsePlan, factor: Any) -> Array:
    """Entries of S^-1 on the pattern of S."""
    at, p = plan.pattern, plan.panels
    panels = np.empty(p.panel[-1])
    selinv.load_panels(p.runs, p.begin, p.rowptr, p.rows, p.panel, *cholmod.columns(factor), panels)
    tree = (p.begin, p.owner, p.rowptr, p.rows, p.panel)
    with wide_blas(plan.analysis.inverse_flops):
        selinv.invert_panels(p.order[: p.bounds[0]], *tree, panels)
    selinv.invert_subtrees(p.order, p.bounds, *tree, panels)
    values = np.empty(len(at.ind))
    selinv.read_inverse(p.runs, at.ptr, at.ind, p.begin, p.rowptr, p.rows, p.panel, panels, values)
    return values
