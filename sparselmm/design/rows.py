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
        For missing, infinite or negative weights in rows that are complete, for infinite values
        in the rows used, and when no row is left.
    """
    columns = list(columns)
    if n == 0:
        raise DataError("The data have no rows; at least two are expected.")
    zero = _zero_weights(weights)
    missing = missing_rows(columns, zero)
    _check_weights(weights, missing)
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
    if values.min() > 0:
        return None
    zero = values == 0
    return zero if weights.missing is None else zero & ~weights.missing


def _check_weights(weights: Column | None, dropped: Array | None) -> None:
    """Refuse weights that are no weights, but for rows that are left out anyway."""
    if weights is None:
        return
    values = weights.numbers("Weights")
    bad = {
        "missing": weights.missing,
        "infinite": weights.infinite,
        "negative": None if values.min() >= 0 else values < 0,
    }
    for kind, mask in bad.items():
        used = mask if mask is None or dropped is None else mask & ~dropped
        count = 0 if used is None else int(used.sum())
        if count:
            raise DataError(
                f"Weights '{weights.name}': {count} of {len(values)} are {kind}, finite numbers of "
                "zero or more are expected; replace them, or give weight 0 to drop a row."
            )


def _nothing_left(columns: list[Column], n: int) -> str:
    counts = {c.name: int(c.missing.sum()) for c in columns if c.missing is not None}
    worst = sorted(counts.items(), key=lambda item: -item[1])[:3]
    shown = ", ".join(f"'{name}' {count}" for name, count in worst)
    return (
        f"All {n} rows have a missing value in some variable of the model (missing: {shown}); "
        "complete rows are expected; fill or leave out these variables."
    )
