"""Levels of grouping factors: learn them once, code any rows with them.

A level is a number in ``[0, l)``. Levels follow the order of the categories for categorical
columns and are sorted otherwise; levels that do not occur are dropped. An interaction is coded
from the codes of its columns, never from concatenated text:

    code(a:b) = rank of  code(a) * l_b + code(b)  among the combinations that occur
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.data import Column
from sparselmm.errors import DataError


@dataclass(frozen=True, eq=False)
class Levels:
    """What was learned about one grouping factor.

    Attributes
    ----------
    name
        ``"g"``, or ``"a:b"`` for an interaction.
    columns
        The columns of the data it is made of.
    parts
        Per column its levels.
    combinations
        (l,) int64, sorted: the combined codes that occur; None for a single column.
    """

    name: str
    columns: tuple[str, ...]
    parts: tuple[pd.Index, ...]
    combinations: Array | None = None

    def __len__(self) -> int:
        return len(self.parts[0]) if self.combinations is None else len(self.combinations)

    @cached_property
    def labels(self) -> pd.Index:
        """Levels in code order; text ``"a:b"`` for an interaction."""
        if self.combinations is None:
            return self.parts[0]
        codes = np.unravel_index(self.combinations, [len(part) for part in self.parts])
        texts = [
            part.astype(str).to_numpy(dtype=object)[code]
            for part, code in zip(self.parts, codes, strict=True)
        ]
        return pd.Index(reduce(lambda left, right: left + ":" + right, texts))

    def encode(self, columns: Sequence[Column]) -> Array:
        """(n,) int32 codes of other rows, -1 where a value is missing or was not learned."""
        codes = [
            match_levels(part, column) for part, column in zip(self.parts, columns, strict=True)
        ]
        if self.combinations is None:
            return codes[0]
        unknown = np.logical_or.reduce([code < 0 for code in codes])
        combined = _combine([np.maximum(code, 0) for code in codes], self.parts)
        found = np.searchsorted(self.combinations, combined)
        found = np.minimum(found, len(self.combinations) - 1).astype(np.int32)
        found[unknown | (self.combinations[found] != combined)] = -1
        return found


def learn_levels(
    name: str, names: Sequence[str], coded: Sequence[tuple[Array, pd.Index]]
) -> tuple[Levels, Array]:
    """Levels of a grouping factor and the (n,) int32 codes of the rows they were learned from.

    Parameters
    ----------
    name
        Name of the factor.
    names
        Its columns.
    coded
        Per column what `code_column` gives.
    """
    parts = tuple(levels for _, levels in coded)
    if len(coded) == 1:
        return Levels(name, tuple(names), parts), coded[0][0]
    combined = _combine([codes for codes, _ in coded], parts)
    codes, combinations = code_integers(combined)
    return Levels(name, tuple(names), parts, combinations.astype(np.int64)), codes


def code_column(column: Column) -> tuple[Array, pd.Index]:
    """(n,) int32 codes and the levels of one column without missing values.

    O(n) by table look-up for categories, booleans and integers in a range not much wider than n;
    otherwise by hashing, as in pandas' ``factorize``, plus a sort of the levels.
    """
    values = column.values
    if column.categories is not None:
        codes, present = code_integers(values)
        all_met = len(present) == len(column.categories)
        return codes, column.categories if all_met else column.categories[present]
    if column.kind == "boolean":
        codes, present = code_integers(values.view(np.uint8))
        return codes, pd.Index(present.astype(bool))
    if column.kind == "time":
        codes, present = code_integers(values.view(np.int64))
        return codes, pd.Index(present.astype(np.int64).view(values.dtype))
    values = _as_integers(values)
    if values.dtype.kind == "f":
        codes, levels = pd.factorize(values, sort=True)
        return codes.astype(np.int32), pd.Index(levels)
    codes, present = code_integers(values)
    return codes, pd.Index(present)


def code_integers(values: Array) -> tuple[Array, Array]:
    """(n,) int32 codes of integers and their sorted distinct values."""
    low, high = int(values.min()), int(values.max())
    low = 0 if 0 < low <= (high + 1) // 2 else low
    width = high - low + 1
    if width > max(4 * len(values), 65_536) or high > np.iinfo(np.int64).max:
        codes, distinct = pd.factorize(values, sort=True)
        return codes.astype(np.int32), np.asarray(distinct)
    if low != 0:
        values = np.subtract(values, low, dtype=np.int64, casting="unsafe")
    seen = np.zeros(width, dtype=bool)
    seen[values] = True
    present = np.flatnonzero(seen)
    if len(present) == width:
        return values.astype(np.int32), present + low
    rank = np.empty(width, dtype=np.int32)
    rank[present] = np.arange(len(present), dtype=np.int32)
    return rank[values], present + low


def _as_integers(values: Array) -> Array:
    """Integers where floats hold nothing else (ids read next to missing ones)."""
    if values.dtype.kind != "f" or not np.abs(values).max(initial=0.0) <= 2.0**53:
        return values
    integers = values.astype(np.int64)
    return integers if np.array_equal(integers, values) else values


def _combine(codes: Sequence[Array], parts: Sequence[pd.Index]) -> Array:
    sizes = [len(part) for part in parts]
    if np.prod(sizes, dtype=float) > 2.0**62:
        raise DataError(
            f"An interaction of grouping columns with {' x '.join(map(str, sizes))} levels has "
            "more combinations than 64-bit integers; code it as one column first."
        )
    combined = codes[0].astype(np.int64)
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        combined *= size
        combined += code
    return combined


def match_levels(learned: pd.Index, column: Column) -> Array:
    """(n,) int32 positions of the values of a column among learned levels, -1 where missing or new.

    Numbers and text match by their text: level ``"308"`` is found by 308 and the reverse.
    """
    if column.categories is not None:
        known = np.append(_find(learned, column.categories), -1).astype(np.int32)
        return known[column.values]
    values, missing = column.values, column.missing
    if missing is None:
        return _find(learned, pd.Index(values)).astype(np.int32)
    found = np.full(len(values), -1, dtype=np.int32)
    found[~missing] = _find(learned, pd.Index(values[~missing]))
    return found


def _find(learned: pd.Index, values: pd.Index) -> Array:
    if _is_text(learned) == _is_text(values):
        return learned.get_indexer(values)
    distinct, inverse = np.unique(_as_integers(values.to_numpy()), return_inverse=True)
    return learned.astype(str).get_indexer(pd.Index(distinct).astype(str))[inverse]


def _is_text(index: pd.Index) -> bool:
    return pd.api.types.is_string_dtype(index.dtype) or index.dtype == object
