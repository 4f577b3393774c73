"""The narrow waist: cross-products of [Z X y]. Nothing that comes after knows how many rows there were.

`Gram.from_design` takes one pass over the rows; `from_batches` takes many and adds them up with `merge`. All
batches must be encoded with the same levels and cross-multiplied in the same internal coordinates (`Basis`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from sparselmm._types import Array
from sparselmm.basis import (
    Basis,
    block_diagonal,
    fixed_basis,
    reduced_basis,
    term_basis,
    with_all_columns,
)
from sparselmm.kernels.crosstab import counting_sort, factor_sums, pair_counts, pair_sums
from sparselmm.tall import tall_product
from sparselmm.threads import side_by_side, split_range

if TYPE_CHECKING:
    from sparselmm.design import Design, RandomTerm

ROWS = 50_000  # that a thread should have at the least


@dataclass(frozen=True, slots=True)
class CrossBlock:
    """Z_i'WZ_j for two factors, compressed by the levels of the first.

    Attributes
    ----------
    indptr : ndarray of int64, shape (l_i + 1,)
    indices : ndarray of int32, shape (nnz,)
        Levels of factor j, increasing within a level of factor i.
    values : ndarray, shape (nnz, s_i, s_j)
    """

    indptr: Array
    indices: Array
    values: Array

    def first(self) -> Array:
        """Levels of the first factor, one for each entry, shape (nnz,), int32."""
        levels = np.arange(len(self.indptr) - 1, dtype=np.int32)
        return np.repeat(levels, np.diff(self.indptr))

    def transpose(self, n_levels: int) -> CrossBlock:
        """The same block compressed by the levels of the second factor."""
        order = np.arange(len(self.indices), dtype=np.int64)
        indptr, order = counting_sort(self.indices, order, n_levels)
        values = np.ascontiguousarray(self.values[order].transpose(0, 2, 1))
        return CrossBlock(indptr, self.first()[order], values)


@dataclass(frozen=True, slots=True)
class Gram:
    """Cross-products in internal coordinates.

    Attributes
    ----------
    n : int
        Rows.
    sum_log_weights : float
    ZtZ : tuple of ndarray, shape (l_j, s_j, s_j)
        Diagonal blocks Z_j'WZ_j, one tuple entry per factor.
    cross : dict of (i, j) to CrossBlock
        Off-diagonal blocks, i < j.
    ZtXy : tuple of ndarray, shape (l_j, s_j, p + 1)
        Z_j'W[X y].
    XytXy : ndarray, shape (p + 1, p + 1)
        [X y]'W[X y].
    basis : Basis
        The internal coordinates.
    """

    n: int
    sum_log_weights: float
    ZtZ: tuple[Array, ...]
    cross: dict[tuple[int, int], CrossBlock]
    ZtXy: tuple[Array, ...]
    XytXy: Array
    basis: Basis

    @property
    def p(self) -> int:
        """Fixed effects kept."""
        return len(self.basis.kept)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(levels, coefficients per level) of every factor."""
        return tuple((block.shape[0], block.shape[1]) for block in self.ZtZ)

    @property
    def q(self) -> int:
        """Random effects in all."""
        return sum(levels * s for levels, s in self.shapes)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        cross = sum(c.values.nbytes + c.indices.nbytes for c in self.cross.values())
        return cross + sum(a.nbytes for a in (*self.ZtZ, *self.ZtXy))

    @classmethod
    def from_design(
        cls, design: Design, terms: tuple[RandomTerm, ...], basis: Basis | None = None
    ) -> Gram:
        """Cross-products of one batch of rows.

        Parameters
        ----------
        design : Design
        terms : tuple of RandomTerm
        basis : Basis, optional
            Internal coordinates; chosen from this batch when not given.
        """
        basis = learn_basis(design, terms) if basis is None else basis
        w = design.weights
        Xy = basis.fixed_and_response(design.X, design.y, design.offset)
        Q = [basis.random(j, factor.Q) for j, factor in enumerate(design.factors)]
        WQ = Q if w is None else [block * w[:, None] for block in Q]
        counts = [factor.n_levels for factor in design.factors]
        codes = [factor.codes for factor in design.factors]
        k, widths = len(codes), [own.shape[1] for own in Q]
        ZtZ = tuple(np.empty((n, s, s)) for n, s in zip(counts, widths, strict=True))
        ZtXy = tuple(np.empty((n, s, Xy.shape[1])) for n, s in zip(counts, widths, strict=True))
        found = side_by_side(
            [partial(_cross_blocks, j, codes, WQ, Q, counts) for j in range(1, k)]
            + [
                partial(factor_sums(widths[j]), *ends, codes[j], WQ[j], Q[j], Xy, ZtZ[j], ZtXy[j])
                for j in range(k)
                for ends in split_range(counts[j], design.n // ROWS)
            ]
        )
        return cls(
            n=design.n,
            sum_log_weights=0.0 if w is None else float(np.log(w).sum()),
            ZtZ=ZtZ,
            cross={pair: block for blocks in found[: k - 1] for pair, block in blocks.items()},
            ZtXy=ZtXy,
            XytXy=tall_product(Xy, Xy if w is None else Xy * w[:, None]),
            basis=basis,
        )

    @classmethod
    def from_batches(cls, designs: Iterable[Design], terms: tuple[RandomTerm, ...]) -> Gram:
        """Cross-products of many batches that share their levels.

        The first batch sets the coordinates. Which columns of X are independent is judged when all rows are in:
        what is constant in one batch may vary in the next.
        """
        batches = (design for design in designs if design.n)
        first = next(batches, None)
        if first is None:
            raise ValueError("Found no rows in any batch; expected at least one batch with rows.")
        basis = with_all_columns(learn_basis(first, terms), first.X, first.weights)
        grams = (cls.from_design(batch, terms, basis) for batch in chain([first], batches))
        return _independent(reduce(merge, grams))

    def with_response(self, ZtY: tuple[Array, ...], XtY: Array, YtY: float) -> Gram:
        """The same design with another response: only Z'y, X'y and y'y change.

        Parameters
        ----------
        ZtY : tuple of ndarray, shape (l_j, s_j)
        XtY : ndarray, shape (p,)
        YtY : float
        """
        ZtXy = tuple(
            np.concatenate([old[:, :, :-1], new[:, :, None]], axis=2)
            for old, new in zip(self.ZtXy, ZtY, strict=True)
        )
        XytXy = self.XytXy.copy()
        XytXy[:-1, -1] = XytXy[-1, :-1] = XtY
        XytXy[-1, -1] = YtY
        return replace(self, ZtXy=ZtXy, XytXy=XytXy)


def learn_basis(design: Design, terms: tuple[RandomTerm, ...]) -> Basis:
    """Internal coordinates that suit these rows."""
    root = None if design.weights is None else np.sqrt(design.weights)
    y = design.y if design.offset is None else design.y - design.offset
    kept, Rx, beta0 = fixed_basis(design.X, y, root)
    Rq = []
    for j, factor in enumerate(design.factors):
        own = sorted((t for t in terms if t.factor == j), key=lambda term: term.start)
        blocks = [
            term_basis(factor.Q[:, t.start : t.start + len(t.columns)], t.template, root)
            for t in own
        ]
        Rq.append(block_diagonal(blocks))
    return Basis(kept, Rx, beta0, tuple(Rq))


def _cross_blocks(j: int, codes, WQ, Q, counts) -> dict[tuple[int, int], CrossBlock]:
    """Cross-products of factor j with those before it, rows sorted once."""
    blocks, by_second = {}, None
    for i in range(j):
        if _is_ones(WQ[i]) and _is_ones(WQ[j]):
            found = pair_counts(codes[i], codes[j], counts[i], counts[j])
        else:
            if by_second is None:
                n = len(codes[j])
                rows = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
                _, by_second = counting_sort(codes[j], rows, counts[j])
            pointers, order = counting_sort(codes[i], by_second, counts[i])
            found = pair_sums(pointers, order, codes[j], WQ[i], Q[j])
        blocks[i, j] = CrossBlock(*found)
    return blocks


def _is_ones(Q: Array) -> bool:
    """Whether a factor has an intercept only, unweighted: its cross-products are counts."""
    return Q.shape[1] == 1 and bool((Q == 1.0).all())


def _independent(gram: Gram) -> Gram:
    """The same rows with the earliest independent columns of X, orthonormal over all of them."""
    p = gram.p
    basis, M = reduced_basis(gram.basis, gram.XytXy[:p, :p])
    whole = np.zeros((p + 1, basis.Rx.shape[1] + 1))
    whole[:p, :-1], whole[p, -1] = M, 1.0
    return replace(
        gram,
        ZtXy=tuple(np.ascontiguousarray(block @ whole) for block in gram.ZtXy),
        XytXy=whole.T @ gram.XytXy @ whole,
        basis=basis,
    )


def merge(a: Gram, b: Gram) -> Gram:
    """The cross-products of both sets of rows.

    Both must have been taken with the same levels and the same `Basis`.
    """
    if a.shapes != b.shapes or not a.basis.equals(b.basis):
        raise ValueError(
            "Found cross-products in different coordinates; expected both from one set of levels and one "
            "Basis. Pass the first batch's `basis` to Gram.from_design."
        )
    return Gram(
        n=a.n + b.n,
        sum_log_weights=a.sum_log_weights + b.sum_log_weights,
        ZtZ=tuple(x + y for x, y in zip(a.ZtZ, b.ZtZ, strict=True)),
        cross={pair: _add(a.cross[pair], b.cross[pair]) for pair in a.cross},
        ZtXy=tuple(x + y for x, y in zip(a.ZtXy, b.ZtXy, strict=True)),
        XytXy=a.XytXy + b.XytXy,
        basis=a.basis,
    )


def _add(a: CrossBlock, b: CrossBlock) -> CrossBlock:
    """Sum of two blocks with different patterns."""
    indptr = a.indptr + b.indptr
    width = max(a.indices.max(initial=0), b.indices.max(initial=0)) + 1
    first = np.concatenate([a.first(), b.first()]).astype(np.int64)
    keys = first * width + np.concatenate([a.indices, b.indices])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    values = np.concatenate([a.values, b.values])[order]
    summed = np.add.reduceat(values, starts, axis=0) if len(starts) else values
    levels = keys[starts] // width
    indptr = np.searchsorted(levels, np.arange(len(indptr)))
    return CrossBlock(indptr.astype(np.int64), (keys[starts] % width).astype(np.int32), summed)
