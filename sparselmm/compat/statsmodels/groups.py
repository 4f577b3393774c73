"""The top-level groups: codes of the rows, sorted labels, rows of a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.design.factors import code_integers
from sparselmm.errors import DataError


@dataclass(frozen=True)
class Groups:
    """Groups in sorted order.

    Attributes
    ----------
    codes : ndarray of int32, shape (n,)
    labels : ndarray
        Distinct values of the grouping variable, sorted.
    """

    codes: Array
    labels: Any

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


def group_values(values: Any) -> Any:
    """Labels as an array; categoricals stay what they are."""
    if values is None:
        raise DataError(
            "Found groups=None; expected a label for every row. Pass a column, or np.ones(n) for one group."
        )
    values = getattr(values, "array", values)
    if isinstance(values, pd.Categorical):
        return values
    return np.asarray(values)


def code_groups(values: Any) -> Groups:
    """Codes and sorted labels of a grouping variable.

    Raises
    ------
    DataError
        For missing labels and labels that cannot be sorted.
    """
    values = group_values(values)
    if values.ndim != 1:
        raise DataError(f"groups has shape {values.shape}; expected one label per row.")
    missing = 0 if values.dtype.kind in "iub" else int(pd.isna(values).sum())
    if missing:
        raise DataError(
            f"groups is missing in {missing} of {len(values)} rows; drop these rows, or pass "
            "missing='drop'."
        )
    codes, labels = _coded(values)
    return Groups(codes, labels)


def _coded(values: Any) -> tuple[Array, Any]:
    """int32 codes and sorted labels."""
    try:
        if isinstance(values, pd.Categorical):
            codes, present = code_integers(values.codes)
            labels = np.asarray(values.categories[present])
            order = np.argsort(labels, kind="stable")
            rank = np.empty(len(order), dtype=np.int32)
            rank[order] = np.arange(len(order), dtype=np.int32)
            return rank[codes], labels[order]
        if values.dtype.kind in "iu":
            codes, present = code_integers(values)
            return codes, present.astype(values.dtype)
        codes, labels = pd.factorize(values, sort=True)
        return codes.astype(np.int32), labels
    except TypeError:
        raise DataError(
            "groups mixes labels of several types; expected one type, so that they can be sorted. "
            "Convert them, for example with astype(str)."
        ) from None


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
        if key not in self._made:
            self._made[key] = self._make(position)
        return self._made[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._made[key] = value
        super().__setitem__(key, None)

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove a key and give its value."""
        if key not in self and default:
            return default[0]
        value = self[key]
        del self[key], self._made[key]
        return value

    # Those of dict itself would read and write positions.
    popitem = MutableMapping.popitem
    setdefault = MutableMapping.setdefault
    update = MutableMapping.update

    def __ior__(self, other: Any) -> LazyDict:
        self.update(other)
        return self

    def __iter__(self) -> Iterator[Any]:
        # Present so that dict(...) and ** ask __getitem__ rather than copy positions.
        return super().__iter__()

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key, or `default`."""
        return self[key] if key in self else default  # noqa: SIM401

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
