"""The top-level groups: codes of the rows, sorted labels, rows of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import DataError


@dataclass(frozen=True)
class Groups:
    """Groups in sorted order.

    Attributes
    ----------
    codes : ndarray of int32, shape (n,)
    labels : list
        Distinct values of the grouping variable, sorted.
    """

    codes: Array
    labels: list

    @cached_property
    def order(self) -> Array:
        """Rows sorted by group, stable."""
        return np.argsort(self.codes, kind="stable")

    @cached_property
    def start(self) -> Array:
        """Where each group begins in `order`, shape (n_groups + 1,)."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    @cached_property
    def sizes(self) -> Array:
        """Rows per group."""
        return np.bincount(self.codes, minlength=len(self.labels))

    def rows(self, group: int) -> Array:
        """Rows of one group, in the order of the data."""
        return self.order[self.start[group] : self.start[group + 1]]


def code_groups(values: Any) -> Groups:
    """Codes and sorted labels of a grouping variable.

    Raises
    ------
    DataError
        For missing labels and labels that cannot be sorted.
    """
    plain = np.asarray(values)
    if plain.ndim != 1:
        raise DataError(f"groups has shape {plain.shape}; expected one label per row.")
    try:
        codes, labels = pd.factorize(plain, sort=True)
    except TypeError:
        raise DataError(
            "groups mixes labels of several types; expected one type, so that they can be sorted. "
            "Convert them, for example with astype(str)."
        ) from None
    missing = int((codes < 0).sum())
    if missing:
        raise DataError(
            f"groups is missing in {missing} of {len(codes)} rows; drop these rows, or pass "
            "missing='drop'."
        )
    return Groups(codes.astype(np.int32), list(labels))


class LazyDict(dict):
    """A dictionary whose values are made when they are looked at.

    Parameters
    ----------
    keys : list
    make : callable
        Value from the position of the key.
    """

    def __init__(self, keys: list, make: Callable[[int], Any]) -> None:
        super().__init__(zip(keys, range(len(keys)), strict=True))
        self._make, self._made = make, {}

    def __getitem__(self, key: Any) -> Any:
        position = super().__getitem__(key)
        if position not in self._made:
            self._made[position] = self._make(position)
        return self._made[position]

    def __iter__(self) -> Iterator[Any]:
        # Present so that dict(...) and ** ask __getitem__ rather than copy positions.
        return super().__iter__()

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or `default`."""
        return self[key] if key in self else default

    def values(self) -> list:  # type: ignore[override]
        """All values, made."""
        return [self[key] for key in self]

    def items(self) -> list:  # type: ignore[override]
        """All pairs, made."""
        return [(key, self[key]) for key in self]

    def copy(self) -> dict:
        """A plain dictionary."""
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.copy())

    def __reduce__(self) -> tuple:
        return dict, (self.copy(),)
