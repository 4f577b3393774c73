"""Means of the fixed part: the methods `predict` of a model and of its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels.data import table
from sparselmm.compat.statsmodels.params import as_params
from sparselmm.errors import DataError

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM
    from sparselmm.compat.statsmodels.results import MixedLMResults


def model_means(self: MixedLM, params: Any, exog: Any = None) -> Array:
    """Means of the fixed part.

    Parameters
    ----------
    params : MixedLMParams or array_like
        Its first k_fe elements are the fixed effects.
    exog : array_like, shape (m, k_fe), optional
        The model's own when not given; one row may be given flat, and gives one number.

    Raises
    ------
    DataError
        For another number of columns, and when the model's own rows were removed.
    """
    point = as_params(params)
    try:
        fe = np.asarray(params if point is None else point.fe_params, dtype=float)
    except (TypeError, ValueError):
        fe = np.empty((0, 0))
    if fe.ndim != 1 or len(fe) < self.k_fe:
        raise DataError(
            f"Found params={params!r}; expected a MixedLMParams or a vector that begins with {self.k_fe} fixed "
            f"effects: {', '.join(self.exog_names)}."
        )
    beta = np.nan_to_num(fe[: self.k_fe])
    if exog is None:
        return _own_rows(self) @ beta
    values = np.asarray(exog)
    if values.ndim == 1 and self.k_fe > 1:
        return _checked(self, values[None, :])[0] @ beta
    return _checked(self, table(values, "exog")) @ beta


def predict(self: MixedLMResults, exog: Any = None, transform: bool = True) -> Any:
    """Means of the fixed part.

    Parameters
    ----------
    exog : DataFrame, Series, dict or array_like, optional
        New data; the model's own when not given. A Series is a column when its name is one of the
        formula's, else a row.
    transform : bool
        Whether a table holds the variables of the formula rather than columns of exog. An array always
        holds columns of exog.

    Returns
    -------
    ndarray or Series
        A Series for data with an index; NaN for rows with missing values.
    """
    model, at = self.model, self.params_object
    if exog is None:
        return model_means(model, at)
    if transform and model.data.formula is not None and _is_table(exog):
        made = model.predict_frame(exog)
        return pd.Series(model_means(model, at, made.to_numpy()), index=made.index)
    if isinstance(exog, Mapping):
        raise DataError(
            f"Found a dictionary of {list(exog)}; expected an array with {model.k_fe} columns "
            f"({', '.join(model.exog_names)}) for a model without a formula. Pass an array or a DataFrame."
        )
    values = np.asarray(exog)
    if values.ndim < 2:
        values = values.reshape(-1, 1) if model.k_fe == 1 else values.reshape(1, -1)
    means = np.asarray(model_means(model, at, values))
    if not isinstance(exog, (pd.Series, pd.DataFrame)):
        return means
    index = exog.index
    return pd.Series(means, index=index if len(index) == len(means) else [index.name])


def _is_table(exog: Any) -> bool:
    """Whether columns can be asked for by name."""
    frame = isinstance(exog, (pd.DataFrame, pd.Series, Mapping)) or hasattr(exog, "to_pandas")
    return frame or getattr(getattr(exog, "dtype", None), "names", None) is not None


def _own_rows(model: MixedLM) -> Array:
    if model.rows_removed:
        raise DataError(
            "The rows of this model were removed (remove_data); expected new data. Pass them as exog."
        )
    return model.exog


def _checked(model: MixedLM, values: Array) -> Array:
    if values.shape[1] != model.k_fe:
        raise DataError(
            f"exog has {values.shape[1]} columns; expected {model.k_fe}: {', '.join(model.exog_names)}. Give one "
            "row per prediction with a column for each fixed effect."
        )
    return table(values, "exog")
