"""One variable of the data, in numpy arrays, whatever kind of frame it came from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import DataError

Kind = Literal["number", "boolean", "category", "time"]

_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
_FILL = {"f": np.nan, "i": 0, "u": 0, "b": False}
_SORTABLE = ("string", "empty", "date", "datetime", "datetime64", "time", "bytes")


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One variable.

    Attributes
    ----------
    name
        Name in the data, for messages.
    kind
        ``number``, ``boolean``, ``category`` or ``time``.
    values
        (n,) numbers, booleans or datetimes; for a category the integer codes, -1 where missing.
    categories
        What the codes mean, in level order; None unless `kind` is ``category``.
    missing
        (n,) bool, or None when nothing is missing.
    infinite
        (n,) bool, or None when all numbers are finite.
    """

    name: str
    kind: Kind
    values: Array
    categories: pd.Index | None = None
    missing: Array | None = None
    infinite: Array | None = None

    def take(self, rows: Array | None) -> Column:
        """Keep some rows, none missing or infinite; None keeps all without copying."""
        if rows is None:
            return self
        return Column(self.name, self.kind, self.values.take(rows), self.categories)

    def numbers(self, role: str) -> Array:
        """(n,) float64, not copied where the data hold that already.

        Raises
        ------
        DataError
            When the column is neither numeric nor boolean; `role` says what it is needed for.
        """
        if self.kind not in ("number", "boolean"):
            raise DataError(
                f"{role} '{self.name}' holds {self.describe()}, numbers are expected; "
                "convert the column first."
            )
        return np.ascontiguousarray(self.values, dtype=np.float64)

    def describe(self) -> str:
        """What the column holds, in words."""
        if self.kind == "category" and self.categories is not None:
            shown = ", ".join(repr(value) for value in self.categories[:3])
            return f"text or categories ({shown}{', ...' if len(self.categories) > 3 else ''})"
        return {"number": "numbers", "boolean": "true and false"}.get(self.kind, "dates or times")

    def series(self) -> pd.Series:
        """Give formulaic what it expects; unused categories are dropped."""
        if self.categories is None:
            return pd.Series(self.values)
        values = pd.Categorical.from_codes(
            self.values,  # type: ignore[arg-type]
            categories=self.categories,
        )
        return pd.Series(values.remove_unused_categories())


def missing_rows(columns: Iterable[Column], unused: Array | None = None) -> Array | None:
    """(n,) bool: rows where any of the columns is missing, or None when there are none.

    Parameters
    ----------
    columns
        What a model needs of the data.
    unused
        (n,) bool: rows that are left out for another reason.

    Raises
    ------
    DataError
        For infinite values in the rows that remain.
    """
    columns = list(columns)
    masks = [column.missing for column in columns if column.missing is not None]
    missing = np.logical_or.reduce(masks) if masks else None
    for column in columns:
        _refuse_infinite(column, [mask for mask in (missing, unused) if mask is not None])
    return missing


def _refuse_infinite(column: Column, left_out: list[Array]) -> None:
    if column.infinite is None:
        return
    infinite = column.infinite
    for mask in left_out:
        infinite = infinite & ~mask
    count = int(infinite.sum())
    if count:
        raise DataError(
            f"'{column.name}' holds {count} infinite value{'s' * (count > 1)}, "
            f"first in row {int(infinite.argmax())} (counted from 0), finite numbers are "
            "expected; replace them, or make them missing so that the rows are dropped."
        )


def array_column(values: Any, name: str, n: int) -> Column:
    """Read an argument such as `weights` that has one value per row of the data.

    Raises
    ------
    DataError
        When it has another length or is not one-dimensional.
    """
    shape = np.shape(values)
    if shape != (n,):
        raise DataError(
            f"{name} has shape {shape}, expected ({n},), one value per row of the data; "
            "pass a column name or an array of that length."
        )
    return from_array(values, name)


def from_array(values: Any, name: str) -> Column:
    """Read a one-dimensional array, list or series of any library.

    Raises
    ------
    DataError
        When it has more than one dimension, and as `from_pandas`.
    """
    if isinstance(values, (pd.Series, pd.Index, pd.Categorical)):
        return from_pandas(pd.Series(values, copy=False), name)
    if isinstance(values, np.ma.MaskedArray):
        return _from_masked(values, name)
    array = _array(values)
    if array.ndim != 1:
        raise DataError(
            f"'{name}' has shape {array.shape}, expected ({len(array)},), one value per row; give "
            "each column a name of its own, or flatten a single one with .ravel()."
        )
    if array.dtype.kind in "fiub":
        return from_numpy(array, name)
    return from_pandas(pd.Series(array, copy=False), name)


def _array(values: Any) -> Array:
    """An array, of objects where a list is ragged."""
    try:
        return np.asarray(values)
    except ValueError:
        return pd.Series(list(values), dtype=object).to_numpy()


def _from_masked(values: np.ma.MaskedArray, name: str) -> Column:
    """Read an array with a mask; what is masked is missing."""
    mask, data = np.ma.getmaskarray(values), np.asarray(values.data)
    if data.dtype.kind in "fiub" and data.ndim == 1:
        return from_numpy(data, name, mask)
    data = data.copy() if data.dtype.kind in "mM" else data.astype(object)
    data[mask] = None
    return from_array(data, name)


def from_pandas(series: pd.Series, name: str) -> Column:
    """Read a pandas Series of any dtype."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
        return from_numpy(series.to_numpy(), name)
    if isinstance(dtype, pd.CategoricalDtype):
        return from_codes(series.cat.codes.to_numpy(), series.cat.categories, name)
    if pd.api.types.is_bool_dtype(dtype):
        return _nullable(series, "boolean", np.dtype(bool), name)
    if getattr(dtype, "kind", "") == "c":
        raise DataError(
            f"'{name}' holds complex numbers, real numbers are expected; take the real part or "
            "the modulus first."
        )
    if pd.api.types.is_numeric_dtype(dtype):
        return _nullable(series, "number", _numpy_dtype(dtype), name)
    if pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        return from_times(_naive(series), name)
    return _from_objects(series, name)


def from_numpy(values: Array, name: str, missing: Array | None = None) -> Column:
    """Read numbers or booleans; NaN is missing."""
    if values.dtype.kind == "b":
        return Column(name, "boolean", values, None, _some(missing))
    infinite = None
    if values.dtype.kind == "f":
        missing, infinite = _not_finite(values, missing)
    return Column(name, "number", values, None, _some(missing), _some(infinite))


def from_codes(codes: Array, categories: pd.Index, name: str) -> Column:
    """Read categorical codes; negative codes are missing."""
    return Column(name, "category", codes, categories, _some(codes < 0))


def from_times(values: Array, name: str) -> Column:
    """Read numpy datetimes or timedeltas; NaT is missing."""
    return Column(name, "time", values, None, _some(np.isnat(values)))


def _some(mask: Array | None) -> Array | None:
    return mask if mask is not None and mask.any() else None


def _not_finite(values: Array, missing: Array | None) -> tuple[Array | None, Array | None]:
    """Where values are missing, and where they are infinite."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(values.sum())
    if math.isfinite(total):
        return missing, None
    nan = np.isnan(values)
    infinite = np.isinf(values)
    if missing is not None:
        nan |= missing
        infinite &= ~missing
    return nan, infinite


def _numpy_dtype(dtype: Any) -> np.dtype:
    kind = getattr(dtype, "kind", "f")
    return np.dtype({"i": np.int64, "u": np.uint64}.get(kind, np.float64))


def _nullable(series: pd.Series, kind: Kind, dtype: np.dtype, name: str) -> Column:
    missing = series.isna().to_numpy()
    values = series.to_numpy(dtype=dtype, na_value=_FILL[dtype.kind])
    if kind == "boolean":
        return Column(name, kind, values, None, _some(missing))
    return from_numpy(values, name, missing)


def _naive(series: pd.Series) -> Array:
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        series = series.dt.tz_convert(None)
    return series.to_numpy()


def _from_objects(series: pd.Series, name: str) -> Column:
    inferred = pd.api.types.infer_dtype(series, skipna=True)
    if inferred in _NUMBERS:
        return from_numpy(series.astype("float64").to_numpy(), name)
    if inferred == "boolean":
        return _nullable(series, "boolean", np.dtype(bool), name)
    if inferred not in _SORTABLE:
        types = sorted(kind.__name__ for kind in series.dropna().map(type).unique())
        raise DataError(
            f"'{name}' holds values of type {', '.join(types)}, expected either numbers, text, "
            "categories, booleans or dates; convert the column to one of these."
        )
    codes, categories = pd.factorize(series, sort=True)
    return from_codes(codes, pd.Index(categories), name)
