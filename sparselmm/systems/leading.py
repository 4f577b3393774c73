"""The leading factor set apart from the rest: what every path eliminates first, and what it leaves.

In the order (leading factor, other factors) the penalised matrix is A = [[A11, A12], [A21, A22]] with A11
block-diagonal. `Leading` holds the patterns, which no theta changes, and makes the theta-dependent pieces on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from sparselmm._types import Array
from sparselmm.gram import CrossBlock, Gram
from sparselmm.kernels.crosstab import counting_sort
from sparselmm.kernels.partners import append_partners, transpose_pattern


@dataclass(frozen=True, slots=True)
class Leading:
    """Patterns and values around the leading factor.

    Attributes
    ----------
    index : int
        Which factor leads.
    rest : tuple of int
        The other factors, in the order of their columns in S.
    D : ndarray, shape (l1, s1, s1)
        Z_1'WZ_1.
    indptr : ndarray of int64, shape (l1 + 1,)
    cols : ndarray of int32, shape (nnz,)
        Columns of S that a leading level meets, increasing.
    values : tuple of ndarray, shape (entries, s1, s_j)
        Z_1'WZ_j by rest factor, as the Gram holds them.
    place : tuple of ndarray of int64, shape (entries,)
        Where each of those blocks starts in `cols`.
    colptr, rows, positions : ndarray
        The transposed view: for column a of S the leading levels that meet it and where in `cols`.
    A22_ptr, A22_cols : ndarray
        Pattern of the lower triangle of A22 in compressed rows, diagonal included.
    A22_order : ndarray of int64
        From the order in which `rest_products` are listed to the pattern's.
    rest_products : tuple of (int, int, ndarray)
        Z_j'WZ_k for the pairs of rest factors (positions in `rest`), shape (entries, s_j, s_k).
    shapes : tuple of (int, int)
        (levels, coefficients) of the rest factors.
    """

    index: int
    rest: tuple[int, ...]
    D: Array
    indptr: Array
    cols: Array
    values: tuple[Array, ...]
    place: tuple[Array, ...]
    colptr: Array
    rows: Array
    positions: Array
    A22_ptr: Array
    A22_cols: Array
    A22_order: Array
    rest_products: tuple[tuple[int, int, Array], ...]
    shapes: tuple[tuple[int, int], ...]

    @property
    def n_S(self) -> int:
        """Order of the Schur complement."""
        return sum(levels * s for levels, s in self.shapes)

    def column_offsets(self) -> Array:
        """First column of every rest factor in S, and n_S at the end."""
        return np.concatenate([[0], np.cumsum([levels * s for levels, s in self.shapes])])

    def panel(self, T_rest: list[Array]) -> Array:
        """Columns of Z_1'WZ_2 T_2, shape (nnz, s1)."""
        out = np.empty((len(self.cols), self.D.shape[1]))
        for values, place, T in zip(self.values, self.place, T_rest, strict=True):
            s = len(T)
            if s == 1:
                out[place] = values[:, :, 0] * T[0, 0]
                continue
            scaled = values @ T
            for c in range(s):
                out[place + c] = scaled[:, :, c]
        return out

    def A22(self, T_rest: list[Array]) -> Array:
        """Values of the lower triangle of T_2'Z_2'WZ_2 T_2 + I on its pattern."""
        pieces = []
        for j, k, values in self.rest_products:
            scaled = _sandwich(T_rest[j], values, T_rest[k])
            if j == k:
                scaled = scaled + np.eye(len(T_rest[j]))
                a, b = lower_entries(len(T_rest[j]))
                pieces.append(scaled[:, a, b].ravel())
            else:
                pieces.append(scaled.ravel())
        return np.concatenate(pieces)[self.A22_order] if pieces else np.empty(0)


@cache
def lower_entries(s: int) -> tuple[Array, Array]:
    """Rows and columns of a lower triangle."""
    return np.tril_indices(s)


def _sandwich(left: Array, blocks: Array, right: Array) -> Array:
    """left' block right for every block."""
    if left.shape == right.shape == (1, 1):
        return blocks * (left[0, 0] * right[0, 0])
    return left.T @ blocks @ right


def choose_leading(shapes: tuple[tuple[int, int], ...]) -> int:
    """The factor with most coefficients: what it leaves is smallest."""
    sizes = [levels * s for levels, s in shapes]
    return sizes.index(max(sizes))


def make_leading(gram: Gram) -> Leading:
    """Set the leading factor of a Gram apart."""
    index = choose_leading(gram.shapes)
    rest = tuple(j for j in range(len(gram.shapes)) if j != index)
    shapes = tuple(gram.shapes[j] for j in rest)
    offsets = np.concatenate([[0], np.cumsum([levels * s for levels, s in shapes])])
    blocks = [_block(gram, index, j) for j in rest]
    indptr, cols, place = _side_by_side(gram.shapes[index][0], blocks, offsets)
    colptr, rows, positions = transpose_pattern(indptr, cols, int(offsets[-1]))
    products = _rest_products(gram, rest)
    A22_ptr, A22_cols, A22_order = _rest_pattern(gram, rest, products, offsets)
    return Leading(
        index, rest, gram.ZtZ[index], indptr, cols, tuple(b.values for b in blocks), place, colptr, rows,
        positions, A22_ptr, A22_cols, A22_order, products, shapes,
    )  # fmt: skip


def _block(gram: Gram, i: int, j: int) -> CrossBlock:
    """Z_i'WZ_j compressed by the levels of i, whichever of the two the Gram holds."""
    return gram.cross[i, j] if i < j else gram.cross[j, i].transpose(gram.shapes[i][0])


def _side_by_side(n_levels: int, blocks: list[CrossBlock], offsets: Array):
    """Patterns of several blocks merged into one list of columns per leading level."""
    widths = [block.values.shape[2] for block in blocks]
    counts = [np.diff(block.indptr) * w for block, w in zip(blocks, widths, strict=True)]
    total = np.sum(counts, axis=0) if blocks else np.zeros(n_levels, np.int64)
    indptr = np.concatenate([[0], np.cumsum(total)]).astype(np.int64)
    cols, free = np.empty(int(indptr[-1]), np.int32), indptr[:-1].copy()
    places = tuple(np.empty(len(block.indices), np.int64) for block in blocks)
    for block, width, offset, place in zip(blocks, widths, offsets[:-1], places, strict=True):
        append_partners(block.indptr, block.indices, width, offset, free, cols, place)
    return indptr, cols, places


def _rest_products(gram: Gram, rest: tuple[int, ...]) -> tuple[tuple[int, int, Array], ...]:
    """Lower triangle of Z_2'WZ_2 by pairs of factors (row factor j >= column factor k)."""
    products = []
    for j, factor in enumerate(rest):
        products.append((j, j, gram.ZtZ[factor]))
        products += [(j, k, _block(gram, factor, rest[k]).values) for k in range(j)]
    return tuple(products)


def _rest_pattern(gram: Gram, rest: tuple[int, ...], products, offsets: Array):
    """Compressed rows of the lower triangle of A22, and the order that puts its values there."""
    rows, cols = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for j, k, values in products:
        s_j, s_k = values.shape[1:]
        if j == k:
            a, b = lower_entries(s_j)
            first = second = np.arange(len(values), dtype=np.int64)
        else:
            a, b = (grid.ravel() for grid in np.indices((s_j, s_k)))
            block = _block(gram, rest[j], rest[k])
            first, second = block.first().astype(np.int64), block.indices.astype(np.int64)
        rows.append((offsets[j] + first[:, None] * s_j + a).ravel())
        cols.append((offsets[k] + second[:, None] * s_k + b).ravel())
    row, col = (np.concatenate(parts).astype(np.int32) for parts in (rows, cols))
    _, by_column = counting_sort(col, np.arange(len(col), dtype=np.int64), int(offsets[-1]))
    pointers, order = counting_sort(row, by_column, int(offsets[-1]))
    return pointers, col[order], order
