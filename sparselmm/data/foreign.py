"""Frames other than pandas, read through narwhals; polars and pyarrow text is coded natively."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v1 as nw
import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.data.columns import Column, from_codes, from_numpy, from_pandas, from_times
from sparselmm.data.frame import Table
from sparselmm.errors import DataError


def foreign_table(data: Any) -> Table:
    """Open a frame that narwhals knows.

    Raises
    ------
    DataError
        When it is lazy, or no frame at all.
    """
    try:
        frame = nw.from_native(data, eager_only=True)
    except TypeError:
        kind = f"{type(data).__module__}.{type(data).__qualname__}"
        advice = "collect it first" if hasattr(data, "collect") else "convert it first"
        raise DataError(
            f"The data are a {kind}, expected a pandas, polars or pyarrow frame "
            f"or a dictionary of arrays; {advice}."
        ) from None
    return Table(len(frame), frame.columns, lambda name: _read(frame.get_column(name), name))


def _read(series: nw.Series, name: str) -> Column:
    dtype = series.dtype
    if dtype.is_numeric():
        return _numeric(series, name)
    if dtype == nw.Boolean:
        missing = series.is_null().to_numpy()
        return from_numpy(series.fill_null(False).to_numpy().astype(bool), name, missing)
    if dtype in (nw.String, nw.Categorical, nw.Enum):
        return _category(series, name)
    if dtype in (nw.Date, nw.Datetime, nw.Duration):
        return from_times(_times(series), name)
    return from_pandas(pd.Series(series.to_list(), dtype=object), name)


def _numeric(series: nw.Series, name: str) -> Column:
    if isinstance(series.dtype, nw.Decimal):
        series = series.cast(nw.Float64)
    if series.null_count() == 0:
        return from_numpy(series.to_numpy(), name)
    missing = series.is_null().to_numpy()
    return from_numpy(series.fill_null(0).to_numpy(), name, missing)


def _times(series: nw.Series) -> Array:
    values = series.to_numpy()
    return values if values.dtype.kind in "mM" else values.astype("datetime64[us]")


def _category(series: nw.Series, name: str) -> Column:
    if series.implementation.is_polars():
        return from_codes(*_polars_codes(series.to_native(), series.dtype), name)
    if series.implementation.is_pyarrow():
        return from_codes(*_arrow_codes(series.to_native(), series.dtype), name)
    return from_pandas(pd.Series(series.to_list()), name)


def _polars_codes(native: Any, dtype: Any) -> tuple[Array, pd.Index]:
    """Codes in the order of an Enum; of sorted text otherwise, as polars itself orders."""
    import polars as pl

    if dtype != nw.Enum:
        native = native.cast(pl.String)
        native = native.cast(pl.Enum(native.drop_nulls().unique().sort()))
    codes = native.to_physical().cast(pl.Int32).fill_null(-1).to_numpy()
    return codes, pd.Index(native.dtype.categories.to_list())


def _arrow_codes(native: Any, dtype: Any) -> tuple[Array, pd.Index]:
    """Codes in the order of the dictionary; of sorted text where there is none."""
    encoded = native.unify_dictionaries() if dtype == nw.Categorical else native.dictionary_encode()
    encoded = encoded.combine_chunks()
    if hasattr(encoded, "chunks"):
        encoded = encoded.chunk(0)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    categories = pd.Index(encoded.dictionary.to_pylist())
    if dtype == nw.Categorical:
        return codes, categories
    order = categories.argsort()
    rank = np.empty(len(order) + 1, dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    rank[-1] = -1
    return rank[codes], categories[order]
