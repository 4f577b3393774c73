"""Which rows are used: missing values and zero weights, decided once for all columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.data import Column, missing_rows
from sparselmm.errors import DataError


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows a model uses.

    Attributes
    ----------
    kept
        Positions of the rows kept, or None when all are.
    n
        Their number.
    n_missing, n_zero_weight
        How many were dropped because a value is missing, and because the weight is zero.
    """

    kept: Array | None
    n: int
    n_missing: int = 0
    n_zero_weight: int = 0


def choose_rows(columns: Iterable[Column], n: int, weights: Column | None) -> Rows:
    """Drop rows with any missing value, then rows of weight zero.

    Raises
    ------
    DataError
        For missing or negative weights, and when no row is left.
    """
    columns = list(columns)
    if n == 0:
        raise DataError("The data have no rows; at least two are expected.")
    missing = missing_rows(columns)
    zero = _zero_weights(weights)
    if missing is None and zero is None:
        return Rows(None, n)
    dropped = np.zeros(n, dtype=bool) if missing is None else missing
    n_missing = int(dropped.sum())
    if n_missing == n:
        raise DataError(_nothing_left(columns, n))
    if zero is not None:
        dropped = dropped | zero
    kept = np.flatnonzero(~dropped)
    if len(kept) == 0:
        raise DataError(
            f"All {n - n_missing} rows without missing values have weight zero; "
            "positive weights are expected; check the weights."
        )
    return Rows(kept, len(kept), n_missing, n - n_missing - len(kept))


def _zero_weights(weights: Column | None) -> Array | None:
    if weights is None:
        return None
    values = weights.numbers("Weights")
    _refuse(weights.missing, weights.name, "missing")
    if values.min() > 0:
        return None
    _refuse(values < 0, weights.name, "negative")
    return values == 0


def _refuse(bad: Array | None, name: str, kind: str) -> None:
    count = 0 if bad is None else int(bad.sum())
    if count:
        raise DataError(
            f"Weights '{name}': {count} of {len(bad)} are {kind}, "  # type: ignore[arg-type]
            "numbers of zero or more are expected; replace them, or give weight 0 to drop a row."
        )


def _nothing_left(columns: list[Column], n: int) -> str:
    counts = {c.name: int(c.missing.sum()) for c in columns if c.missing is not None}
    worst = sorted(counts.items(), key=lambda item: -item[1])[:3]
    shown = ", ".join(f"'{name}' {count}" for name, count in worst)
    return (
        f"All {n} rows have a missing value in some variable of the model (missing: {shown}); "
        "complete rows are expected; fill or leave out these variables."
    )
