"""Variance components as codes and values: no matrix per group, no loop over groups.

A component holds independent coefficients with one variance. Row i of the data meets, in the level `codes[i]`, the
`m` coefficients of that level with the values `values[i]`. Two shapes cover what statsmodels can express:

    dummies, also times a number   one coefficient per (group, column) that can be non-zero, m = 1
    several columns at a time      level = group, m = number of columns (padded with zeros where groups differ)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels.groups import Groups
from sparselmm.compat.statsmodels.params import VCSpec
from sparselmm.errors import DataError

WIDEST = 100_000  # columns of one group up to which those of zeros are listed


@dataclass(frozen=True)
class ListedLabels:
    """Column names as given, one list per group, or one list for all of them."""

    lists: Sequence[Sequence[str]]

    def of(self, group: int, present: slice, m: int) -> tuple[list[str], Array]:
        """Names of a group's columns and their coefficients (level * m + column)."""
        names = [str(name) for name in self.lists[group if len(self.lists) > 1 else 0]]
        return names, np.arange(present.start * m, present.start * m + len(names))


@dataclass(frozen=True)
class CodedLabels:
    """Column names of dummies and their products, put together when asked for.

    Attributes
    ----------
    parts : tuple of (str, Index or None)
        Per factor of the product its text and, of a categorical one, its levels.
    combined : ndarray of int64, shape (n_levels,)
        Per coefficient its combination of levels, the first factor running fastest.
    every : tuple of bool
        Per categorical factor whether every group has its columns for all levels, used or not
        (categorical columns), or for those that occur in the group.
    """

    parts: tuple[tuple[str, pd.Index | None], ...]
    combined: Array
    every: tuple[bool, ...]

    def of(self, group: int, present: slice, m: int) -> tuple[list[str], Array]:
        """Names of a group's columns and their coefficients, -1 for columns of zeros.

        Like statsmodels', a product has all combinations of its factors' levels; where these would be more than
        `WIDEST` and more than the coefficients, only those that occur.
        """
        own = self.combined[present]
        columns = self._grid(own)
        where = np.full(len(columns), -1)
        where[np.searchsorted(columns, own)] = np.arange(present.start, present.stop)
        return [self.text(int(c)) for c in columns], where

    def _grid(self, own: Array) -> Array:
        """Combinations that a group with these has columns for, ascending: the first factor runs fastest."""
        sizes = [len(levels) for _, levels in self.parts if levels is not None]
        used, rest = [], own
        for size, every in zip(sizes, self.every, strict=True):
            rest, at = np.divmod(rest, size)
            used.append(np.arange(size) if every else np.unique(at))
        if np.prod([float(len(levels)) for levels in used]) > max(WIDEST, len(own)):
            return own
        columns = np.zeros(1, dtype=np.int64)
        for size, levels in zip(sizes[::-1], used[::-1], strict=True):
            columns = (columns[:, None] * size + levels).reshape(-1)
        return columns

    def text(self, combination: int) -> str:
        """``"C(cask)[b]:x"``."""
        pieces = []
        for name, levels in self.parts:
            if levels is None:
                pieces.append(name)
                continue
            combination, at = divmod(combination, len(levels))
            pieces.append(f"{name}[{levels[at]}]")
        return ":".join(pieces)


@dataclass(frozen=True)
class Component:
    """One variance component.

    Attributes
    ----------
    name : str
    codes : ndarray of int32, shape (n,)
    values : ndarray, shape (n, m)
    start : ndarray of int, shape (n_groups + 1,)
        Levels of group g: ``start[g]`` up to ``start[g + 1]``.
    labels : ListedLabels or CodedLabels
    """

    name: str
    codes: Array
    values: Array
    start: Array
    labels: ListedLabels | CodedLabels

    @property
    def n_levels(self) -> int:
        """Levels, all groups together."""
        return int(self.start[-1])

    @property
    def width(self) -> int:
        """Coefficients per level."""
        return self.values.shape[1]

    def columns(self, group: int) -> tuple[list[str], Array]:
        """Names of the columns of a group and their coefficients; -1: a column of zeros."""
        present = slice(int(self.start[group]), int(self.start[group + 1]))
        return self.labels.of(group, present, self.width)

    def matrix(self, group: int, rows: Array) -> Array:
        """The matrix of one group, as statsmodels would hold it."""
        _, coefficients = self.columns(group)
        m, first = self.width, int(self.start[group])
        levels = int(self.start[group + 1]) - first
        full = np.zeros((len(rows), levels * m))
        at = (self.codes[rows] - first)[:, None] * m + np.arange(m)
        full[np.arange(len(rows))[:, None], at] = self.values[rows]
        known = coefficients >= 0
        out = np.zeros((len(rows), len(coefficients)))
        out[:, known] = full[:, coefficients[known] - first * m]
        return out


def coded_component(
    name: str,
    groups: Groups,
    parts: Sequence[tuple[str, pd.Index | None]],
    codes: Sequence[Array],
    values: Array | None,
    every: Sequence[bool],
) -> Component:
    """A component of dummies nested in the groups, possibly times a numeric column.

    Parameters
    ----------
    name : str
    groups : Groups
    parts : sequence of (str, Index or None)
        Factors of the product.
    codes : sequence of ndarray, shape (n,)
        Codes of its categorical factors.
    values : ndarray, shape (n,), or None
        Product of its numeric factors.
    every : sequence of bool
    """
    sizes = [len(levels) for _, levels in parts if levels is not None]
    combined, count = np.zeros(len(groups.codes), np.int64), 1
    for code, size in zip(codes, sizes, strict=True):
        combined += count * code.astype(np.int64)
        count *= size
    if float(count) * len(groups.labels) > 2.0**62:
        raise DataError(
            f"Component '{name}' has {count} combinations in each of {len(groups.labels)} groups: more "
            "than 64-bit integers can number. Code the product as one column first."
        )
    level, present = pd.factorize(groups.codes * np.int64(count) + combined, sort=True)
    start = np.searchsorted(present, np.arange(len(groups.labels) + 1) * np.int64(count))
    column = np.ones(len(level)) if values is None else np.asarray(values, dtype=float)
    labels = CodedLabels(tuple(parts), present % count, tuple(every))
    return Component(name, level.astype(np.int32), column[:, None], start, labels)


def column_component(name: str, groups: Groups, columns: Sequence[str], values: Array) -> Component:
    """A component of numeric columns: every group has one coefficient per column."""
    start = np.arange(len(groups.labels) + 1)
    return Component(name, groups.codes, _rows(values), start, ListedLabels([list(columns)]))


def components_of(spec: VCSpec, groups: Groups) -> list[Component]:
    """Components of matrices given per group.

    Raises
    ------
    DataError
        When there is not one matrix per group with one row for each of its rows.
    """
    if isinstance(spec, CodedSpec):
        return spec.components
    return [
        _from_matrices(name, spec.colnames[k], spec.mats[k], groups)
        for k, name in enumerate(spec.names)
    ]


def _from_matrices(name: str, colnames: Any, mats: Any, groups: Groups) -> Component:
    shapes = np.array([np.shape(mat) if np.ndim(mat) != 1 else (len(mat), 1) for mat in mats])
    if len(shapes) != len(groups.labels) or (shapes[:, 0] != groups.sizes).any():
        raise DataError(
            f"Component '{name}' of exog_vc has {len(shapes)} matrices with {shapes[:, 0].sum()} rows; "
            f"expected one for each of the {len(groups.labels)} groups in sorted order, with the "
            f"group's rows ({len(groups.codes)} in all)."
        )
    m = int(shapes[:, 1].max(initial=0))
    if m == 0:
        raise DataError(
            f"Component '{name}' of exog_vc has no column in any group; expected at least one. Leave it out."
        )
    sorted_values, counts = _stacked(mats, shapes, groups, m)
    values = np.empty_like(sorted_values)
    values[groups.order] = sorted_values
    if not np.isfinite(values.sum()):
        raise DataError(f"Component '{name}' of exog_vc has missing or infinite values.")
    if m > 1 and counts.max() <= 1:
        start = np.concatenate([[0], np.cumsum(shapes[:, 1])])
        column = np.argmax(values != 0.0, axis=1)
        codes = (start[groups.codes] + column).astype(np.int32)
        picked = values[np.arange(len(values)), column][:, None]
        return Component(name, codes, picked, start, ListedLabels(colnames))
    return Component(
        name, groups.codes, values, np.arange(len(groups.labels) + 1), ListedLabels(colnames)
    )


def _stacked(mats: Any, shapes: Array, groups: Groups, m: int) -> tuple[Array, Array]:
    """Values in group order, padded to m columns, and the number of non-zero ones per row."""
    values = np.zeros((len(groups.codes), m))
    for width in np.unique(shapes[:, 1]):
        chosen = np.flatnonzero(shapes[:, 1] == width)
        block = np.concatenate([_dense(mats[i], width) for i in chosen])
        rows = np.repeat(np.isin(np.arange(len(shapes)), chosen), shapes[:, 0])
        values[rows, :width] = block
    return values, np.count_nonzero(values, axis=1)


def _dense(mat: Any, width: int) -> Array:
    plain = mat.toarray() if hasattr(mat, "toarray") else np.asarray(mat, dtype=float)
    return plain.reshape(-1, width)


def _rows(values: Array) -> Array:
    matrix = np.asarray(values, dtype=float)
    return np.ascontiguousarray(matrix.reshape(len(matrix), -1))


class _PerGroup(Sequence):
    """One object per group, made when it is looked at."""

    def __init__(self, count: int, make: Any) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._make(int(index) % self._count)


class CodedSpec(VCSpec):
    """Components that came from formulas: codes inside, matrices only when they are looked at.

    Parameters
    ----------
    components : list of Component
    groups : Groups
    sparse : bool
        Give matrices as scipy's CSR arrays.
    """

    def __init__(self, components: list[Component], groups: Groups, sparse: bool = False) -> None:
        self.components, self.groups, self.sparse = components, groups, sparse
        self.names = [component.name for component in components]

    @property
    def colnames(self) -> list:  # type: ignore[override]
        """Names of the columns per component and group."""
        return [
            _PerGroup(len(self.groups.labels), lambda g, c=c: c.columns(g)[0])
            for c in self.components
        ]

    @property
    def mats(self) -> list:  # type: ignore[override]
        """Matrices per component and group."""
        return [
            _PerGroup(len(self.groups.labels), lambda g, c=c: self._matrix(c, g))
            for c in self.components
        ]

    def _matrix(self, component: Component, group: int) -> Any:
        dense = component.matrix(group, self.groups.rows(group))
        if not self.sparse:
            return dense
        from scipy.sparse import csr_array

        return csr_array(dense)


def spec_from_dict(exog_vc: dict, groups: Groups) -> VCSpec:
    """The matrices of statsmodels' older format ``exog_vc[name][group]``, components sorted by name.

    Raises
    ------
    DataError
        When a group has no matrix.
    """
    names = sorted(exog_vc)
    colnames, mats = [], []
    for name in names:
        by_group = exog_vc[name]
        absent = [label for label in groups.labels if label not in by_group]
        if absent:
            raise DataError(
                f"exog_vc['{name}'] has no matrix for group {absent[0]!r}; expected one for each of "
                f"the {len(groups.labels)} groups (with no columns where the component is absent)."
            )
        own = [by_group[label] for label in groups.labels]
        mats.append(own)
        colnames.append([_column_names(mat) for mat in own])
    return VCSpec(names, colnames, mats)


def _column_names(mat: Any) -> list[str]:
    if isinstance(mat, pd.DataFrame):
        return [str(name) for name in mat.columns]
    return [str(j) for j in range(mat.shape[1] if np.ndim(mat) > 1 else 1)]
