"""Predictions with their uncertainty: beta and b together, without simulation.

The mean of a row is mu = x'beta + z'b. Given theta (Henderson 1975, Biometrics 31, 423-447; McLean, Sanders &
Stroup 1991, The American Statistician 45, 54-64),

    Var(mu^ - mu) = sigma2 ( k'C^-1 k + sum over new levels of z_j'Sigma_j z_j ),             k = (Lambda'z; x)
    Var(y - mu^)  = Var(mu^ - mu) + sigma2 ( 1/w + sum over terms left out of z_j'Sigma_j z_j )

where a level the model has not seen contributes its whole variance, and so does, to a new observation, a term that is
left out by `random`. Intervals are normal; the uncertainty of theta is not in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from sparselmm import predict as points
from sparselmm._types import Array
from sparselmm.data import missing_rows, open_table
from sparselmm.errors import InferenceError, SparseLMMWarning, warn
from sparselmm.fit import Fit
from sparselmm.inference.distributions import check_level, two_sided_quantile
from sparselmm.joint import joint_rows

Interval = Literal["confidence", "prediction"]


def predict(
    fit: Fit,
    newdata: Any = None,
    random: str | Sequence[str] = "all",
    new_levels: points.NewLevels = "raise",
    interval: Interval | None = None,
    level: float = 0.95,
    weights: Any = None,
) -> pd.Series | pd.DataFrame:
    """Predicted means, shape (n_new,), alone or with standard errors and intervals.

    Parameters
    ----------
    newdata : dataframe, optional
        Any kind of frame with the predictors and grouping factors that are needed; the response is
        not. Without it, the rows of the fit.
    random : str or sequence of str
        ``"all"``, ``"none"``, or the terms whose random effects count: a grouping factor
        (``"Subject"``), or one term (``"Days | Subject"``).
    new_levels : str
        What to do with levels the model was not fitted with: ``"raise"``, or ``"zero"``, their
        expected random effects; their whole variance is then part of the intervals.
    interval : str, optional
        ``"confidence"``: for the mean x'beta + z'b of the terms in `random`. ``"prediction"``: for
        a new observation, which adds the residual variance over its weight and the variance of the
        terms left out.
    level : float
    weights : str, float or sequence, optional
        Weights of new observations for ``"prediction"``: a column of `newdata`, one number, or one
        per row. By default the column that the model took its weights from; where `newdata` lacks
        it weight 1, with a warning.

    Returns
    -------
    pandas.Series or pandas.DataFrame
        Means, or with an interval the columns ``mean, se, lower, upper``, with the index of
        `newdata`; NaN where a value that is needed is missing.

    Raises
    ------
    InferenceError
        For an unknown term, policy or interval, for new levels under ``"raise"``, and for weights
        of zero or less, of another number than the rows, or without a prediction interval.
    DataError
        For a missing column, and a new category of a fixed effect.

    Warns
    -----
    SparseLMMWarning
        When new observations of a weighted fit have no weights.

    Notes
    -----
    The mean is X beta + sum_j Z_j b_j plus the ``offset()`` terms of the formula. An offset given
    as an argument of `lmm` belongs to the rows of the fit: the fitted values hold it, predictions
    for new data leave it out, as in lme4; add it, or write ``offset(x)`` in the formula. Standard
    errors are those of Henderson's mixed-model equations, given theta.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> new = {"Days": [9, 9, 10], "Subject": ["308", "335", "of tomorrow"]}
    >>> fit.predict(new, new_levels="zero").round(2).tolist()
    [430.66, 248.51, 356.08]
    >>> fit.predict(new, new_levels="zero", interval="prediction").round(1)
        mean    se  lower  upper
    0  430.7  29.1  373.6  487.7
    1  248.5  29.1  191.5  305.5
    2  356.1  72.3  214.4  497.7
    """
    if weights is not None and (interval != "prediction" or newdata is None):
        raise InferenceError(
            "Found weights without new observations; expected them with newdata and interval='prediction'. Leave them "
            "out, or ask for that interval."
        )
    if interval is None:
        return points.predict(fit, newdata, random, new_levels)
    if interval not in ("confidence", "prediction"):
        raise InferenceError(
            f"Found interval={interval!r}; expected None, 'confidence' or 'prediction'."
        )
    half = two_sided_quantile(check_level(level))
    mean = points.predict(fit, newdata, random, new_levels)
    asked = _asked_rows(fit, newdata, points.chosen_terms(fit, random), interval, weights)
    se = np.full(len(mean), np.nan)
    se[asked.complete] = np.sqrt(fit.sigma2 * relative_variance(fit, asked))
    columns = {"mean": mean, "se": se, "lower": mean - half * se, "upper": mean + half * se}
    return pd.DataFrame(columns, index=mean.index)


@dataclass(frozen=True, slots=True)
class Asked:
    """Rows without missing values whose mean, or a new observation of it, is asked for.

    Attributes
    ----------
    complete : ndarray of int, shape (m,)
        Their places among all rows.
    X : ndarray, shape (m, p_all)
    codes, Q : tuple of ndarray, shape (m,) and (m, s_j)
        Zero in the columns of terms left out.
    left_out : dict of int to ndarray, shape (m, s)
        Columns of the terms that add their whole variance, by term.
    noise : ndarray, shape (m,)
        Residual variance over sigma2: 0 for a mean.
    """

    complete: Array
    X: Array
    codes: tuple[Array, ...]
    Q: tuple[Array, ...]
    left_out: dict[int, Array]
    noise: Array


def relative_variance(fit: Fit, asked: Asked) -> Array:
    """Variances of the module's formula over sigma2, shape (m,)."""
    total = joint_rows(fit, asked.X, asked.codes, asked.Q).forms + asked.noise
    for codes, Q, T in zip(asked.codes, asked.Q, fit.T, strict=True):
        total += np.where(codes < 0, ((Q @ T) ** 2).sum(axis=1), 0.0)
    for term, Q in asked.left_out.items():
        total += ((Q @ fit.model.block(fit.T, fit.model.parts[term])) ** 2).sum(axis=1)
    return total


def _asked_rows(fit: Fit, newdata: Any, terms: Sequence[int], interval: str, weights: Any) -> Asked:
    others = [i for i in range(len(fit.spec.terms)) if i not in terms]
    others = others if interval == "prediction" else []
    if newdata is None:
        return _own_rows(fit, terms, others, noise=interval == "prediction")
    new = fit.spec.encode(newdata, terms=terms)
    left_out = {i: _columns(fit, newdata, i) for i in others}
    missing = np.any([new.missing, *(np.isnan(Q).any(axis=1) for Q in left_out.values())], axis=0)
    rows = np.flatnonzero(~missing)
    noise = 0.0
    if interval == "prediction":
        noise = 1.0 / _weights(fit, newdata, len(missing), weights)[rows]
    return Asked(
        rows,
        np.asarray(new.X)[rows],
        tuple(codes[rows] for codes in new.codes),
        tuple(Q[rows] for Q in new.Q),
        {i: Q[rows] for i, Q in left_out.items()},
        np.broadcast_to(noise, len(rows)),
    )


def _own_rows(fit: Fit, terms: Sequence[int], others: Sequence[int], *, noise: bool) -> Asked:
    """The rows of the fit."""
    factors = fit.design.factors
    parts = fit.model.parts
    Q = [np.zeros_like(factor.Q) for factor in factors]
    for part in (parts[i] for i in terms):
        Q[part.factor][:, part.columns] = factors[part.factor].Q[:, part.columns]
    left_out = {i: factors[parts[i].factor].Q[:, parts[i].columns] for i in others}
    weights = np.ones(fit.n) if fit.design.weights is None else fit.design.weights
    own = 1.0 / weights if noise else np.zeros(fit.n)
    codes = tuple(factor.codes for factor in factors)
    return Asked(np.arange(fit.n), fit.design.X, codes, tuple(Q), left_out, own)


def _columns(fit: Fit, newdata: Any, term: int) -> Array:
    """Columns left of the bar of one term, NaN in rows with missing values; no grouping needed."""
    encoder = fit.spec.encoders[term]
    table = open_table(newdata)
    columns = {name: table.column(name) for name in encoder.variables}
    missing = missing_rows(columns.values())
    rows = np.arange(table.n) if missing is None else np.flatnonzero(~missing)
    out = np.full((table.n, len(fit.spec.terms[term].columns)), np.nan)
    taken = {name: column.take(rows) for name, column in columns.items()}
    out[rows] = encoder.matrix(taken, len(rows))
    return out


def _weights(fit: Fit, newdata: Any, n: int, given: Any) -> Array:
    """Weights of new observations, shape (n,)."""
    table = open_table(newdata)
    if given is None:
        given = fit.spec.weights_name
        if given is None or given not in table:
            _warn_unweighted(fit)
            return np.ones(n)
    label = f"'{given}' " if isinstance(given, str) else ""
    values = table.column(given).series() if isinstance(given, str) else given
    weights = np.asarray(values, dtype=float)
    if weights.shape not in ((), (n,)):
        raise InferenceError(
            f"Found weights of shape {weights.shape}; expected one number, or one for each of {n} new rows."
        )
    if (weights <= 0.0).any():
        raise InferenceError(
            f"Found weights {label}of zero or less in the new data; expected positive ones for "
            "interval='prediction'."
        )
    return np.broadcast_to(weights, n)


def _warn_unweighted(fit: Fit) -> None:
    """Say that a weighted fit predicts observations of weight 1."""
    if fit.design.weights is None:
        return
    name = fit.spec.weights_name
    missing = f" (no column '{name}')" if name else ""
    warn(
        f"Found new observations without weights{missing}; expected some, for the fit has them. The intervals are for "
        "weight 1: pass weights=, one number or one per row.",
        SparseLMMWarning,
    )
