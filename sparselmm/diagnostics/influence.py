"""Leverage, residuals and what the fixed effects owe to single rows or groups of them, theta held.

    hat_i = w_i k_i'C^-1 k_i = d fitted_i / d y_i                        Var(e_i) = sigma2 (1 - hat_i) / w_i

with k_i the row of [Z Lambda, X] and C the penalised system (`sparselmm.joint`): O(n) after one inverse of the
Schur complement, whatever n. Deletions are downdates of the estimates (`sparselmm.deletion`), not refits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.deletion import Deleted, delete_groups, delete_rows, weights_of
from sparselmm.errors import InferenceError
from sparselmm.estimates import names
from sparselmm.fit import Fit
from sparselmm.joint import data_rows
from sparselmm.rows import fixed_part, row_index, scaled_residuals

By = str | Sequence[Any] | Array | None
Kind = Literal["conditional", "marginal", "pearson", "standardised", "deletion"]
Effects = Literal["fixed", "all"]


def leverages(fit: Fit) -> Array:
    """hat_i, shape (n,)."""
    return weights_of(fit) * data_rows(fit).forms


def hatvalues(fit: Fit) -> pd.Series:
    """Leverage of every row used, shape (n,): how much its fitted value follows its own response.

    Notes
    -----
    The diagonal of d fitted / d y given theta, random effects included, as lme4's ``hatvalues``
    (Demidenko & Stukel 2005, Statistics in Medicine 24, 893-909). Their sum is the
    effective number of parameters of the fitted values.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.hatvalues().head(3).round(4).tolist()
    [0.2293, 0.1697, 0.1268]
    """
    return pd.Series(leverages(fit), index=row_index(fit), name="hat")


def residuals(fit: Fit, kind: Kind = "conditional") -> pd.Series:
    """Residuals of every row used, shape (n,).

    Parameters
    ----------
    kind : str
        ``"conditional"``: response minus fitted values. ``"marginal"``: response minus the fixed
        part. ``"pearson"``: conditional, times the root of the weight. ``"standardised"``: Pearson
        over its standard deviation, sigma sqrt(1 - hat). ``"deletion"``: response minus the value
        fitted without this row, theta held: conditional / (1 - hat).

    Raises
    ------
    InferenceError
        For an unknown kind.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.residuals("standardised").head(3).round(3).tolist()
    [-0.183, -0.627, -1.764]
    """
    if kind not in get_args(Kind):
        shown = ", ".join(repr(k) for k in get_args(Kind))
        raise InferenceError(f"Found kind={kind!r}; expected one of {shown}.")
    return pd.Series(_residuals(fit, kind), index=row_index(fit), name=kind)


def _residuals(fit: Fit, kind: Kind) -> Array:
    if kind == "marginal":
        return fit.design.y - fixed_part(fit)
    scaled = scaled_residuals(fit)
    if kind == "pearson":
        return scaled * np.sqrt(fit.sigma2)
    conditional = scaled * np.sqrt(fit.sigma2 / weights_of(fit))
    if kind == "conditional":
        return conditional
    left = np.maximum(1.0 - leverages(fit), np.finfo(float).tiny)
    return scaled / np.sqrt(left) if kind == "standardised" else conditional / left


def cooks_distance(fit: Fit, by: By = None, effects: Effects | None = None) -> pd.Series:
    """Cook's distance of every row, or of every group of rows, theta and sigma held.

    Parameters
    ----------
    by : str or sequence, optional
        A grouping factor of the model, or one label per row used; every group is deleted in turn.
    effects : str, optional
        ``"fixed"``: distance of the fixed effects, (beta - beta_(i))' V^-1 (beta - beta_(i)) / p.
        ``"all"``: of fixed and random effects together, e_i² hat_i / (p sigma² (1 - hat_i)²), which
        is what lme4's ``cooks.distance`` computes; rows only. By default ``"all"`` for rows and
        ``"fixed"`` for groups.

    Returns
    -------
    pandas.Series
        Indexed by row, or by group.

    Raises
    ------
    InferenceError
        For an unknown factor, labels of the wrong length, and groups too large to delete.

    Notes
    -----
    Cook (1977, Technometrics 19, 15-18); for mixed models Christensen, Pearson & Johnson (1992,
    Technometrics 34, 38-45). The deletion is exact given theta, by downdating.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.cooks_distance(by="Subject").nlargest(3).round(3)
    Subject
    309    0.149
    335    0.129
    337    0.126
    Name: cooks_distance, dtype: float64
    """
    _check_fixed(fit)
    effects = effects or ("all" if by is None else "fixed")
    if effects not in get_args(Effects) or (effects == "all" and by is not None):
        raise InferenceError(
            f"Found effects={effects!r} with by={'None' if by is None else 'a grouping'}; expected "
            "'fixed', or 'all' for single rows."
        )
    if by is not None or effects == "fixed":
        deleted, index = _deleted(fit, by)
        return pd.Series(deleted.cooks(fit), index=index, name="cooks_distance")
    hat = leverages(fit)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = scaled_residuals(fit) ** 2 * hat / (fit.p * (1.0 - hat) ** 2)
    return pd.Series(distance, index=row_index(fit), name="cooks_distance")


def dfbeta(fit: Fit, by: By = None) -> pd.DataFrame:
    """Change of every fixed effect when a row, or a group of rows, is deleted; theta held.

    Parameters
    ----------
    by : str or sequence, optional
        As in `cooks_distance`.

    Returns
    -------
    pandas.DataFrame
        beta - beta_(i): a row per row of the data or per group, a column per fixed effect. NaN for
        dropped columns, and where the rows left cannot estimate the fixed effects.

    Raises
    ------
    InferenceError
        As `cooks_distance`.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.dfbeta(by="Subject").head(2).round(3)
             Intercept   Days
    Subject
    308         -0.424  0.665
    309         -2.726 -0.483
    """
    deleted, index = _deleted(fit, by)
    inverse = np.linalg.inv(fit.gram.basis.Rx)
    full = np.full((len(deleted.change), len(names(fit))), np.nan)
    full[:, fit.kept] = deleted.change @ inverse.T
    return pd.DataFrame(full, index=index, columns=names(fit))


def dfbetas(fit: Fit, by: By = None) -> pd.DataFrame:
    """`dfbeta` in units of the standard errors of the whole fit; argument and errors are the same.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.dfbetas(by="Subject").abs().max().round(3)
    Intercept    0.413
    Days         0.508
    dtype: float64
    """
    change = dfbeta(fit, by)
    change.iloc[:, fit.kept] /= np.sqrt(np.diag(fit.cov_beta))
    return change


def _deleted(fit: Fit, by: By) -> tuple[Deleted, pd.Index]:
    _check_fixed(fit)
    if by is None:
        return delete_rows(fit), row_index(fit)
    codes, labels = _groups(fit, by)
    return delete_groups(fit, codes, len(labels)), labels


def _check_fixed(fit: Fit) -> None:
    if not fit.p:
        raise InferenceError(
            "Found a model without fixed effects; deletions are measured by what they change there. Use "
            "hatvalues() and residuals('deletion')."
        )


def _groups(fit: Fit, by: str | Sequence[Any] | Array) -> tuple[Array, pd.Index]:
    """Codes of the groups, shape (n,), and their labels."""
    if isinstance(by, str):
        if by not in fit.spec.factor_names:
            known = ", ".join(f"'{name}'" for name in fit.spec.factor_names)
            raise InferenceError(
                f"Found by={by!r}; expected a grouping factor of the model ({known}), or one label "
                "for each row used."
            )
        j = fit.spec.factor_names.index(by)
        return fit.design.factors[j].codes, pd.Index(fit.spec.levels[j]).rename(by)
    if len(by) != fit.n:
        raise InferenceError(f"Found {len(by)} labels in `by`; expected {fit.n}, one per row used.")
    codes, labels = pd.factorize(np.asarray(by), sort=True)
    if (codes < 0).any():
        raise InferenceError("Found missing labels in `by`; expected one for each row used.")
    return codes.astype(np.int32), pd.Index(labels, name="group")
