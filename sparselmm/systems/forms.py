"""Quadratic forms z'A^-1 z for rows z of Z Lambda: a few entries each, one level per factor.

With the block Cholesky factor of A (`sparselmm.kernels.blockchol`), w = L_l^-1 z_1 and t = z_2 - G_l'w,

    z'A^-1 z = w'w + t'S^-1 t = w'(I + G_l S^-1 G_l')w - 2 w'G_l S^-1 z_2 + z_2'S^-1 z_2

Few rows are solved for, in blocks of right-hand sides (the first form). Many rows read S^-1, which is made once,
where they need it (the second): on pairs of partners of one leading level, which every path holds for rows of the
data themselves. Rows that pair levels for which a sparse S^-1 has no entry are solved for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import forms
from sparselmm.systems.base import Factored, SchurInverse
from sparselmm.systems.blocks import BlockInverse
from sparselmm.threads import over_range

if TYPE_CHECKING:
    from sparselmm.systems.sparse import SparseInverse

BLOCK_BYTES = 1 << 25  # of the right-hand sides solved for at a time
CHUNK = 1 << 17  # rows read at a time
FEW = 16  # rows that are solved for where the inverse is cheap


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of Z Lambda.

    Attributes
    ----------
    codes : tuple of ndarray of int32, shape (m,)
        Level of every factor; -1 for none.
    values : tuple of ndarray, shape (m, s_j)
        Entries in the columns of that level.
    """

    codes: tuple[Array, ...]
    values: tuple[Array, ...]

    def __len__(self) -> int:
        return len(self.codes[0])

    def take(self, which: Array | slice) -> Rows:
        """Some of the rows."""
        return Rows(tuple(c[which] for c in self.codes), tuple(v[which] for v in self.values))


class InverseReader(Protocol):
    """S^-1 for single pairs; NaN where it is not held."""

    def entries(self, a: Array, b: Array) -> Array:
        """S^-1[a_i, b_i], shape (m,)."""
        ...

    def products(self, levels: Array, columns: Array) -> Array:
        """S^-1[a_i, :] G_l' for leading levels l_i, shape (m, s_1)."""
        ...


@dataclass(frozen=True, slots=True)
class BlockReader:
    """Reads a `BlockInverse`, which holds every pair."""

    factored: Factored
    inverse: BlockInverse

    def _flat(self) -> tuple[Array, ...]:
        at = self.inverse.layout
        return self.inverse.flat, at.base, at.local, at.size

    def entries(self, a: Array, b: Array) -> Array:
        """See `InverseReader`."""
        out = np.empty(len(a))
        over_range(forms.dense_entries, len(a), *self._flat(), a, b, out)
        return out

    def products(self, levels: Array, columns: Array) -> Array:
        """See `InverseReader`."""
        lead = self.factored.leading
        pattern = (lead.indptr, lead.cols, self.factored.G)
        out = np.empty((len(levels), self.factored.G.shape[1]))
        over_range(forms.dense_products, len(out), *pattern, *self._flat(), levels, columns, out)
        return out


@dataclass(frozen=True, slots=True)
class SparseReader:
    """Reads a `SparseInverse`, which holds the pairs that rows of the data make."""

    factored: Factored
    inverse: SparseInverse

    def _pattern(self) -> tuple[Array, ...]:
        at = self.inverse.store.plan.pattern
        return at.place, at.ptr, at.ind, self.inverse.values

    def entries(self, a: Array, b: Array) -> Array:
        """See `InverseReader`."""
        out = np.empty(len(a))
        over_range(forms.sparse_entries, len(a), *self._pattern(), a, b, out)
        return out

    def products(self, levels: Array, columns: Array) -> Array:
        """See `InverseReader`."""
        lead = self.factored.leading
        pattern = (lead.indptr, lead.cols, self.factored.G)
        out = np.empty((len(levels), self.factored.G.shape[1]))
        over_range(
            forms.sparse_products, len(out), *pattern, *self._pattern(), levels, columns, out
        )
        return out


def quadratic_forms(factored: Factored, rows: Rows) -> Array:
    """z_i'A^-1 z_i for rows of Z Lambda, shape (m,).

    Parameters
    ----------
    factored : Factored
    rows : Rows
        In the coordinates of `factored`.

    Notes
    -----
    Memory beyond the factor: one block of right-hand sides, or S^-1 as a score needs it; never m x q.
    """
    lead = factored.leading
    if not lead.n_S:
        return _in_chunks(rows, lambda part: (_forward(factored, part) ** 2).sum(axis=1))
    few = lead.n_S // 4 if _name(factored) == "crossed" else FEW
    if len(rows) <= few:
        return _solved(factored, rows)
    inverse = factored.schur.inverse()
    reader, partners = _reader(factored, inverse), inverse.partner_forms()
    # Rows of one leading level ask for the same entries: next to each other they find them in cache.
    order = np.argsort(rows.codes[lead.index], kind="stable")
    out = np.empty(len(rows))
    out[order] = _in_chunks(rows.take(order), lambda part: _read(factored, reader, partners, part))
    off = np.flatnonzero(np.isnan(out) & ~_missing(rows))
    if len(off):
        out[off] = _solved(factored, rows.take(off))
    return out


def _reader(factored: Factored, inverse: SchurInverse) -> InverseReader:
    if isinstance(inverse, BlockInverse):
        return BlockReader(factored, inverse)
    return SparseReader(factored, inverse)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class LevelForms:
    """z_i'A^-1 z_j for rows i and j that share their level of the leading factor.

    With P_i = G_l S^-1 z_2i, all of which S^-1 holds on any path,

        z_i'A^-1 z_j = w_i'(I + G_l S^-1 G_l')w_j - w_i'P_j - P_i'w_j + z_2i'S^-1 z_2j

    Attributes
    ----------
    levels : ndarray of int64, shape (m,)
    W, P : ndarray, shape (m, s_1)
    columns, values : ndarray, shape (m, r)
        Entries of z_2.
    partners : ndarray, shape (l_1, s_1, s_1)
    reader : InverseReader
    """

    levels: Array
    W: Array
    P: Array
    columns: Array
    values: Array
    partners: Array
    reader: InverseReader

    def among(self, which: Array) -> Array:
        """The forms within groups of rows, `which` (groups, size): shape (groups, size, size)."""
        W, P = self.W[which], self.P[which]
        own = W + W @ self.partners[self.levels[which[:, 0]]] - P
        H = W @ own.transpose(0, 2, 1) - P @ W.transpose(0, 2, 1)
        r = self.columns.shape[1]
        for a in range(r):
            for b in range(r):
                H += self._rest(which, a, b)
        return H

    def _rest(self, which: Array, a: int, b: int) -> Array:
        """One pair of entries of z_2'S^-1 z_2."""
        shape = (*which.shape, which.shape[1])
        first = np.broadcast_to(self.columns[which, a][:, :, None], shape).ravel()
        second = np.broadcast_to(self.columns[which, b][:, None, :], shape).ravel()
        weights = self.values[which, a][:, :, None] * self.values[which, b][:, None, :]
        return self.reader.entries(first, second).reshape(shape) * weights


def level_forms(factored: Factored, rows: Rows) -> LevelForms:
    """What `LevelForms` needs of rows of the data; S^-1 is made once."""
    inverse = factored.schur.inverse()
    reader = _reader(factored, inverse)
    levels = rows.codes[factored.leading.index].astype(np.int64)
    columns, values = _columns(factored, rows)
    W = _forward(factored, rows)
    P = np.zeros_like(W)
    for a in range(columns.shape[1]):
        met = np.ascontiguousarray(columns[:, a])
        P += values[:, a, None] * reader.products(levels, met)
    return LevelForms(levels, W, P, columns, values, inverse.partner_forms(), reader)


def _name(factored: Factored) -> str:
    return factored.schur.store.name  # type: ignore[attr-defined]


def _missing(rows: Rows) -> Array:
    return np.any([np.isnan(v).any(axis=1) for v in rows.values], axis=0)


def _in_chunks(rows: Rows, answer) -> Array:
    out = np.empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        part = slice(start, start + CHUNK)
        out[part] = answer(rows.take(part))
    return out


def _forward(factored: Factored, rows: Rows) -> Array:
    """W = L_l^-1 z_1 row by row, shape (m, s_1); zero where there is no level."""
    j = factored.leading.index
    codes, z = rows.codes[j], rows.values[j]
    L = factored.L11[np.maximum(codes, 0)]
    W = np.where(codes[:, None] >= 0, z, 0.0)
    for a in range(z.shape[1]):
        W[:, a] -= np.einsum("ib,ib->i", L[:, a, :a], W[:, :a])
        W[:, a] /= L[:, a, a]
    return W


def _columns(factored: Factored, rows: Rows) -> tuple[Array, Array]:
    """Columns of S that the rows meet (-1: none) and their entries there, shape (m, r)."""
    lead = factored.leading
    columns, values = [], []
    for j, offset in zip(lead.rest, lead.column_offsets(), strict=False):
        code, z = rows.codes[j].astype(np.int64)[:, None], rows.values[j]
        met = offset + code * z.shape[1] + np.arange(z.shape[1])
        columns.append(np.where(code >= 0, met, -1))
        values.append(np.where(code >= 0, z, 0.0))
    return np.concatenate(columns, axis=1), np.concatenate(values, axis=1)


def _read(factored: Factored, reader: InverseReader, partners: Array, rows: Rows) -> Array:
    """The second form of the module's formula."""
    levels = rows.codes[factored.leading.index].astype(np.int64)
    W = _forward(factored, rows)
    columns, values = _columns(factored, rows)
    own = np.matmul(partners[np.maximum(levels, 0)], W[:, :, None])[:, :, 0]
    out = np.einsum("ia,ia->i", W, W + own)
    for a in range(columns.shape[1]):
        first = np.ascontiguousarray(columns[:, a])
        half = reader.products(levels, first)
        out -= 2.0 * values[:, a] * np.einsum("ic,ic->i", W, half)
        for b in range(a + 1):
            twice = 1.0 if a == b else 2.0
            entry = reader.entries(first, np.ascontiguousarray(columns[:, b]))
            out += twice * values[:, a] * values[:, b] * entry
    return out


def _solved(factored: Factored, rows: Rows) -> Array:
    """The first form, in blocks of right-hand sides, once per distinct row."""
    rows, again = _distinct(rows)
    size = max(1, BLOCK_BYTES // (8 * factored.leading.n_S))
    out = np.empty(len(rows))
    for start in range(0, len(rows), size):
        _, W, t, solved = partner_rows(factored, rows.take(slice(start, start + size)))
        out[start : start + size] = (W**2).sum(axis=1) + np.einsum("ia,ia->i", t, solved)
    return out[again]


def partner_rows(factored: Factored, rows: Rows) -> tuple[Array, Array, Array, Array]:
    """The pieces of the first form for every row.

    For rows i and j, z_i'A^-1 z_j = [same leading level] w_i'w_j + t_i'S^-1 t_j.

    Returns
    -------
    levels : ndarray of int64, shape (m,)
        Of the leading factor.
    W : ndarray, shape (m, s_1)
    t, solved : ndarray, shape (m, n_S)
        Rows t' and S^-1 t.
    """
    lead = factored.leading
    levels = rows.codes[lead.index].astype(np.int64)
    W = _forward(factored, rows)
    t = np.zeros((len(rows), lead.n_S))
    if not lead.n_S:
        return levels, W, t, t
    pattern = (lead.indptr, lead.cols, factored.G)
    over_range(forms.reduced_rows, len(t), *pattern, levels, W, *_columns(factored, rows), t)
    solved = factored.schur.solve(np.ascontiguousarray(t.T))
    return levels, W, t, np.ascontiguousarray(solved.T)


def _distinct(rows: Rows) -> tuple[Rows, Array]:
    """Distinct rows, and which of them every row is."""
    columns = [*(c[:, None].astype(float) for c in rows.codes), *rows.values]
    _, first, again = np.unique(np.hstack(columns), axis=0, return_index=True, return_inverse=True)
    return rows.take(first), again.reshape(-1)
