"""Layout of a Schur complement that is dense within the connected components of the design."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import scatter
from sparselmm.kernels.components import label_components
from sparselmm.systems.leading import Leading
from sparselmm.threads import over_range

SMALLEST_ROWS = 200  # rows of S, or leading levels, that a thread should have at the least


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
    places, A22_places : ndarray of uint32 (an index that may be negative costs a sixth of the time)
        `local` of the partners of the leading levels and of the columns of A22's entries.
    """

    base: Array
    local: Array
    size: Array
    start: Array
    order: Array
    first: Array
    permutation: Array
    places: Array
    A22_places: Array

    @property
    def length(self) -> int:
        """Entries held."""
        return int((self.order**2).sum())

    @property
    def flops(self) -> float:
        """Multiplications and additions of one factorisation and inverse."""
        return float((self.order.astype(float) ** 3).sum())

    def diagonal_blocks(
        self, inverse: Array, shapes: tuple[tuple[int, int], ...]
    ) -> tuple[Array, ...]:
        """Diagonal blocks of a symmetric matrix in this layout (lower triangles given)."""
        blocks, at = [], 0
        for levels, s in shapes:
            columns = np.arange(at, at + levels * s).reshape(levels, s)
            a = np.maximum(columns[:, :, None], columns[:, None, :])
            b = np.minimum(columns[:, :, None], columns[:, None, :])
            blocks.append(inverse[self.base[a] + self.local[a] * self.size[a] + self.local[b]])
            at += levels * s
        return tuple(blocks)


def component_labels(lead: Leading) -> Array:
    """Connected component of every column of S, numbered from zero."""
    return label_components(lead.indptr, lead.cols, lead.A22_ptr, lead.A22_cols, lead.n_S)


def make_layout(lead: Leading, labels: Array) -> Layout:
    """Squares for the components given by one label per column of S."""
    permutation = np.argsort(labels, kind="stable").astype(np.int64)
    order = np.bincount(labels).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(order**2)[:-1]]).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(order)[:-1]]).astype(np.int64)
    local = np.empty(len(labels), np.int64)
    local[permutation] = np.arange(len(labels)) - first[labels[permutation]]
    places = local[lead.cols].astype(np.uint32), local[lead.A22_cols].astype(np.uint32)
    return Layout(start[labels], local, order[labels], start, order, first, permutation, *places)


def assemble(lead: Leading, at: Layout, G: Array, A22: Array) -> Array:
    """S = A22 - L21 L21', flat in the given layout, lower triangles."""
    S = np.zeros(at.length)
    over_range(
        scatter.assemble, lead.n_S, lead.indptr, at.places, lead.colptr, lead.rows, lead.positions, G,
        lead.A22_ptr, at.A22_places, A22, at.base, at.local, at.size, S, smallest=SMALLEST_ROWS,
    )  # fmt: skip
    return S


@dataclass(frozen=True, slots=True)
class BlockInverse:
    """S^-1 within the components (see `sparselmm.systems.base.SchurInverse`).

    Attributes
    ----------
    leading : Leading
    layout : Layout
    G : ndarray, shape (nnz, s_1)
        L21.
    flat : ndarray, shape (layout.length,)
        Lower triangles of S^-1.
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
        lead, at = self.leading, self.layout
        out = np.empty(lead.D.shape)
        over_range(
            scatter.partner_forms, len(out), lead.indptr, lead.cols, at.places, self.G, self.flat,
            at.base, at.local, at.size, out, smallest=SMALLEST_ROWS,
        )  # fmt: skip
        return out
