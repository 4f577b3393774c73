"""Values given beside the data, in the order of the data's rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sparselmm.errors import DataError, SparseLMMError


def aligned(
    values: Any,
    index: pd.Index | None,
    name: str,
    *,
    dropped: int = 0,
    error: type[SparseLMMError] = DataError,
) -> Any:
    """A pandas Series or DataFrame in the order of row labels; other values as they are.

    Parameters
    ----------
    values
        What was given. When its length fits neither the rows used nor all of them it comes back as
        it is, for a message about its shape.
    index
        Labels of the rows used; None for data without labels, whose rows count by position.
    name
        Of the argument, for the message.
    dropped
        Rows of the data that are not used: values may be given for them too.
    error
        What to raise.

    Raises
    ------
    SparseLMMError
        Of the type wanted, when the labels are others than those of the data.

    Examples
    --------
    >>> aligned(pd.Series([1, 2], index=["b", "a"]), pd.Index(["a", "b"]), "weights").tolist()
    [2, 1]
    """
    if index is None or not isinstance(values, (pd.Series, pd.DataFrame)):
        return values
    labels = values.index
    if labels.equals(index):
        return values
    if len(labels) not in (len(index), len(index) + dropped):
        return values
    if not labels.is_unique or not index.isin(labels).all():
        raise error(
            f"Found {name} as a {type(values).__name__} with other row labels than the data; expected "
            f"the same labels. Pass {name}.to_numpy() if its rows are in the order of the data."
        )
    return values.reindex(index)
