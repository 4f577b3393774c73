"""Open a dataframe of any kind and read single columns of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from sparselmm.data.columns import Column, from_array, from_pandas
from sparselmm.errors import DataError


class Table:
    """Named columns of equal length, each read once when first asked for.

    Attributes
    ----------
    n
        Number of rows.
    names
        All column names.
    index
        Row labels of a pandas frame, else None.
    """

    __slots__ = ("_columns", "_read", "index", "n", "names")

    def __init__(
        self,
        n: int,
        names: Sequence[Any],
        read: Callable[[str], Column],
        index: pd.Index | None = None,
    ) -> None:
        self.n = n
        self.names = names
        self.index = index
        self._read = read
        self._columns: dict[str, Column] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def column(self, name: str) -> Column:
        """Read one column.

        Raises
        ------
        DataError
            When there is no such column (with the closest names), or it cannot be used.
        """
        column = self._columns.get(name)
        if column is None:
            if name not in self.names:
                raise DataError(unknown_column(name, self.names))
            column = self._columns[name] = self._read(name)
        return column


def unknown_column(name: str, names: Sequence[Any]) -> str:
    """Say that a column is not there and which ones might have been meant.

    Examples
    --------
    >>> unknown_column("subject", ["Reaction", "Days", "Subject"])
    "The data have no column 'subject'; did you mean 'Subject'?"
    """
    other = next((c for c in names if not isinstance(c, str) and str(c) == name), None)
    if other is not None:
        return (
            f"The data have no column '{name}', but one whose name {other!r} is of type "
            f"{type(other).__name__}; names are expected to be text: data.rename(columns=str)."
        )
    texts = {str(column).lower(): str(column) for column in reversed(list(names))}
    close = get_close_matches(name.lower(), texts, n=3, cutoff=0.6)
    if close:
        hint = "did you mean " + " or ".join(f"'{texts[match]}'" for match in close) + "?"
    else:
        shown = ", ".join(f"'{column}'" for column in list(names)[:10])
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        hint = f"the columns are {shown}{more}."
    return f"The data have no column '{name}'; {hint}"


def open_table(data: Any) -> Table:
    """Open a pandas, polars or pyarrow frame, or a dictionary of arrays.

    Raises
    ------
    DataError
        When the object is none of these, is lazy, or its columns differ in length.

    Examples
    --------
    >>> table = open_table({"x": [1.0, 2.0], "g": ["b", "a"]})
    >>> table.column("g").values.tolist(), list(table.column("g").categories)
    ([1, 0], ['a', 'b'])
    """
    if isinstance(data, pd.DataFrame):
        return _pandas_table(data)
    if isinstance(data, Mapping):
        return _mapping_table(data)
    from sparselmm.data.foreign import foreign_table

    return foreign_table(data)


def _pandas_table(data: pd.DataFrame) -> Table:
    def read(name: str) -> Column:
        series = data[name]
        if isinstance(series, pd.DataFrame):
            raise DataError(
                f"The data have {series.shape[1]} columns named '{name}', one is expected; "
                "rename or drop the others."
            )
        return from_pandas(series, name)

    return Table(len(data), data.columns, read, data.index)  # type: ignore[arg-type]


def _mapping_table(data: Mapping[str, Any]) -> Table:
    if not data:
        raise DataError("The data are an empty mapping, expected columns by name; fill it.")
    lengths = {name: _length(values) for name, values in data.items()}
    if len(set(lengths.values())) != 1 or () in lengths.values():
        found = ", ".join(f"'{name}' {shape}" for name, shape in list(lengths.items())[:6])
        raise DataError(
            f"The data are a mapping with values of shapes {found}; "
            "expected arrays of one dimension and equal length."
        )

    labelled: list[str] = []

    def read(name: str) -> Column:
        if isinstance(data[name], pd.Series):
            labelled.append(name)
            _check_labels(data, labelled[0], name)
        return from_array(data[name], name)

    return Table(next(iter(lengths.values()))[0], list(data), read)


def _check_labels(data: Mapping[str, Any], first: str, name: str) -> None:
    """Refuse Series of one mapping that belong together by label, but not by position."""
    if not data[name].index.equals(data[first].index):
        raise DataError(
            f"The data are a mapping with Series whose row labels differ ('{first}' and '{name}'), the "
            "same labels are expected: pandas.DataFrame(data) aligns them, .to_numpy() takes them by "
            "position."
        )


def _length(values: Any) -> tuple[int, ...]:
    """Length of the first dimension, () for a scalar; lists may be ragged."""
    try:
        return np.shape(values)[:1]
    except ValueError:
        return (len(values),)
