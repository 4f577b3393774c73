"""Layout of a Schur complement that is kept in one dense square per connected component of the design."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import scatter
from sparselmm.kernels.components import label_components
from sparselmm.kernels.crosstab import counting_sort
from sparselmm.kernels.partners import order_partners
from sparselmm.systems.leading import Leading
from sparselmm.threads import over_range

SMALLEST_ROWS = 100  # rows of S, or leading levels, that a thread should have at the least


@dataclass(frozen=True, slots=True)
class Partners:
    """Entries of L21 and A22 in the order in which the squares take them: increasing in `Layout.local`.

    Attributes
    ----------
    entry, A22_entry : ndarray of int64, or slice
        From the order of `Leading` to this one.
    cols : ndarray of int32, shape (nnz,)
        Columns of S that a leading level meets.
    places : ndarray of uint32, shape (nnz,) (an index that may be negative costs a sixth of the time)
        Where in their square's rows.
    positions : ndarray of int64, shape (nnz,)
        Where `Leading.positions` have gone.
    A22_ptr : ndarray of int64, shape (n_S + 1,)
    A22_places : ndarray of uint32
        Compressed rows of the lower triangle of A22, its columns given by their places.
    """

    entry: Array | slice
    cols: Array
    places: Array
    positions: Array
    A22_entry: Array | slice
    A22_ptr: Array
    A22_places: Array


@dataclass(frozen=True, slots=True)
class Layout:
    """Where S[a, b] is kept: base[a] + local[a] * size[a] + local[b] of a flat array.

    Attributes
    ----------
    base, local, size : ndarray of int64, shape (n_S,)
        Per column of S: start of its component's square, its place in it, the square's order.
    start, order, first : ndarray of int64, shape (components,)
        Per component: start of its square, its order, its first row in `permutation`.
    permutation : ndarray of int64, shape (n_S,)
        Columns of S, component by component.
    partners : Partners
    """

    base: Array
    local: Array
    size: Array
    start: Array
    order: Array
    first: Array
    permutation: Array
    partners: Partners

    @property
    def length(self) -> int:
        """Entries held."""
        return int((self.order**2).sum())

    def diagonal_blocks(
        self, inverse: Array, shapes: tuple[tuple[int, int], ...]
    ) -> tuple[Array, ...]:
        """Diagonal blocks of a symmetric matrix in this layout (lower triangles given)."""
        blocks, at = [], 0
        for levels, s in shapes:
            columns = np.arange(at, at + levels * s).reshape(levels, s)
            start, local = self.base[columns[:, :1, None]], self.local[columns]
            high = np.maximum(local[:, :, None], local[:, None, :])
            low = np.minimum(local[:, :, None], local[:, None, :])
            blocks.append(inverse[start + high * self.size[columns[:, :1, None]] + low])
            at += levels * s
        return tuple(blocks)


def component_labels(lead: Leading) -> Array:
    """Connected component of every column of S, numbered from zero."""
    return label_components(lead.indptr, lead.cols, lead.A22_ptr, lead.A22_cols, lead.n_S)


def make_layout(lead: Leading, labels: Array, order: Array | None = None) -> Layout:
    """Squares for the components given by one label per column of S.

    Parameters
    ----------
    lead : Leading
    labels : ndarray of int64, shape (n_S,)
    order : ndarray of int64, shape (n_S,), optional
        Columns in the order that the squares' rows shall have; as they come when not given.
    """
    permutation = np.argsort(labels, kind="stable").astype(np.int64) if order is None else order
    sizes = np.bincount(labels).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(sizes**2)[:-1]]).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    local = np.empty(len(labels), np.int64)
    local[permutation] = np.arange(len(labels)) - first[labels[permutation]]
    partners = _as_they_come(lead, local) if order is None else _in_order(lead, local, order)
    return Layout(start[labels], local, sizes[labels], start, sizes, first, permutation, partners)


def _as_they_come(lead: Leading, local: Array) -> Partners:
    places, A22_places = (local[cols].astype(np.uint32) for cols in (lead.cols, lead.A22_cols))
    same = slice(None)
    return Partners(same, lead.cols, places, lead.positions, same, lead.A22_ptr, A22_places)


def _in_order(lead: Leading, local: Array, order: Array) -> Partners:
    """The lists of `Leading` for one square whose rows are the columns of S in another order."""
    places, entry, *_ = order_partners(order, lead.indptr, lead.colptr, lead.rows, lead.positions)
    moved = np.empty_like(entry)
    moved[entry] = np.arange(len(entry))
    first = local[np.repeat(np.arange(lead.n_S), np.diff(lead.A22_ptr))]
    second = local[lead.A22_cols]
    row, low = np.maximum(first, second), np.minimum(first, second)
    A22_ptr, A22_entry = counting_sort(order[row].astype(np.int32), np.arange(len(row)), lead.n_S)
    return Partners(
        entry, order[places].astype(np.int32), places.astype(np.uint32), moved[lead.positions],
        A22_entry, A22_ptr, low[A22_entry].astype(np.uint32),
    )  # fmt: skip


def in_partners_order(at: Layout, G: Array) -> Array:
    """L21 of shape (nnz, s_1) as the layout's partners are ordered, transposed."""
    return np.ascontiguousarray(G.T[:, at.partners.entry])


def assemble(lead: Leading, at: Layout, G: Array, A22: Array) -> Array:
    """S = A22 - L21 L21', flat in the given layout, lower triangles; G from `in_partners_order`."""
    S, partners = np.empty(at.length), at.partners
    over_range(
        scatter.assemble, lead.n_S, lead.indptr, partners.places, lead.colptr, lead.rows,
        partners.positions, G, partners.A22_ptr, partners.A22_places, A22[partners.A22_entry],
        at.base, at.local, at.size, S, smallest=SMALLEST_ROWS, work=lead.colptr,
    )  # fmt: skip
    return S


@dataclass(frozen=True, slots=True)
class BlockInverse:
    """S^-1 within the components (see `sparselmm.systems.base.SchurInverse`).

    Attributes
    ----------
    leading : Leading
    layout : Layout
    G : ndarray, shape (s_1, nnz)
        From `in_partners_order`.
    flat : ndarray, shape (layout.length,)
        Lower triangles of S^-1; of no meaning where the factor has no entry.
    """

    leading: Leading
    layout: Layout
    G: Array
    flat: Array

    def diagonal_blocks(self) -> tuple[Array, ...]:
        """Per rest factor the diagonal blocks of S^-1."""
        return self.layout.diagonal_blocks(self.flat, self.leading.shapes)

    def partner_forms(self) -> Array:
        """G_l S^-1 G_l' for every leading level."""
        lead, at, partners = self.leading, self.layout, self.layout.partners
        out = np.empty(lead.D.shape)
        over_range(
            scatter.partner_forms, len(out), lead.indptr, partners.cols, partners.places, self.G,
            self.flat, at.base, at.local, at.size, out, smallest=SMALLEST_ROWS,
        )  # fmt: skip
        return out
