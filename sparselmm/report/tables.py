"""Results as tidy tables, with the columns of R's broom and broom.mixed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from sparselmm import estimates
from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit
from sparselmm.inference.distributions import check_level, two_sided_p, two_sided_quantile
from sparselmm.inference.wald import Ddf, contrast_moments
from sparselmm.ranef import ranef
from sparselmm.rows import fitted_values, fixed_part, row_index
from sparselmm.varcorr import parameter_names, varcorr

Effects = Literal["fixed", "random_sd", "random"]
COLUMNS = [
    "term",
    "estimate",
    "std_error",
    "statistic",
    "df",
    "p_value",
    "conf_low",
    "conf_high",
]


def tidy(
    fit: Fit, effects: Effects = "fixed", ddf: Ddf = None, conf_level: float | None = 0.95
) -> pd.DataFrame:
    """One row per parameter.

    Parameters
    ----------
    effects : str
        ``"fixed"``: coefficients. ``"random_sd"``: standard deviations and correlations,
        ``sd_x|g``, ``cor_x.z|g``, ``sigma``. ``"random"``: conditional modes, with their grouping
        factor and level in the columns ``group`` and ``level``.
    ddf : str, float or None
        Degrees of freedom of the fixed effects, as in `t_test`.
    conf_level : float or None
        Level of the Wald intervals ``conf_low`` and ``conf_high``; None leaves them NaN. Standard
        deviations and correlations have none: see `conf_int` with ``method="profile"``.

    Returns
    -------
    pandas.DataFrame
        Columns ``term, estimate, std_error, statistic, df, p_value, conf_low, conf_high``; NaN
        where something does not apply, and in the rows of dropped columns.

    Raises
    ------
    InferenceError
        For an unknown kind of effects, and a level outside (0, 1).

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.tidy().iloc[:, [0, 1, 2, 6, 7]].round(2)
            term  estimate  std_error  conf_low  conf_high
    0  Intercept    251.41       6.82    238.03     264.78
    1       Days     10.47       1.55      7.44      13.50
    """
    if conf_level is not None:
        check_level(conf_level)
    if effects == "fixed":
        return _fixed(fit, ddf, conf_level)
    if effects == "random_sd":
        return _random_sd(fit)
    if effects == "random":
        return _random(fit, conf_level)
    raise InferenceError(f"Found effects={effects!r}; expected 'fixed', 'random_sd' or 'random'.")


def _fixed(fit: Fit, ddf: Ddf, conf_level: float | None) -> pd.DataFrame:
    beta, covariance, df = contrast_moments(fit, np.eye(fit.p), ddf)
    error = np.sqrt(np.diag(covariance))
    half = _half_width(error, df, conf_level)
    kept = {
        "estimate": beta,
        "std_error": error,
        "statistic": beta / error,
        "df": df,
        "p_value": two_sided_p(beta / error, df),
        "conf_low": beta - half,
        "conf_high": beta + half,
    }
    columns = {name: estimates.expand(fit, values) for name, values in kept.items()}
    return pd.DataFrame({"term": estimates.names(fit), **columns})


def _half_width(error: Array, df: Array | float, conf_level: float | None) -> Array:
    if conf_level is None:
        return np.full(len(error), np.nan)
    return two_sided_quantile(conf_level, df) * error


def _random_sd(fit: Fit) -> pd.DataFrame:
    frame = pd.DataFrame({"term": parameter_names(fit), "estimate": varcorr(fit)["sdcor"]})
    return frame.reindex(columns=COLUMNS)


def _random(fit: Fit, conf_level: float | None) -> pd.DataFrame:
    modes = ranef(fit)
    frame = pd.DataFrame({"group": modes["grpvar"], "level": modes["grp"], "term": modes["term"]})
    value, sd = modes["condval"].to_numpy(), modes["condsd"].to_numpy()
    half = _half_width(sd, np.inf, conf_level)
    frame = frame.assign(
        estimate=value, std_error=sd, conf_low=value - half, conf_high=value + half
    )
    return frame.reindex(columns=["group", "level", *COLUMNS])


def glance(fit: Fit) -> pd.DataFrame:
    """One row about the fit as a whole.

    Returns
    -------
    pandas.DataFrame
        ``nobs, sigma, log_lik, aic, bic, deviance, df_model, df_residual, reml, converged,
        singular``; the criteria of a REML fit come from the restricted likelihood.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.glance().iloc[:, :6].round(2)
       nobs  sigma  log_lik      aic      bic  deviance
    0   180  25.59  -871.81  1755.63  1774.79   1743.63
    """
    row = {
        "nobs": fit.n,
        "sigma": estimates.sigma(fit),
        "log_lik": estimates.llf(fit),
        "aic": estimates.aic(fit),
        "bic": estimates.bic(fit),
        "deviance": estimates.deviance(fit),
        "df_model": estimates.df_model(fit),
        "df_residual": estimates.df_resid(fit),
        "reml": fit.reml,
        "converged": estimates.converged(fit),
        "singular": estimates.is_singular(fit),
    }
    return pd.DataFrame([row])


def augment(fit: Fit) -> pd.DataFrame:
    """The rows of the fit with what the model says about each.

    Returns
    -------
    pandas.DataFrame
        The response, the columns of X that are not constant, the grouping factors, weights and
        offset where there are any, and ``.fitted`` (with random effects), ``.resid``, ``.fixed``
        (without random effects). Indexed like the data; rows that were dropped are missing.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.augment().head(2).round(2)
       Reaction  Days Subject  .fitted  .resid  .fixed
    0    249.56   0.0     308   253.66   -4.10  251.41
    1    258.70   1.0     308   273.33  -14.63  261.87
    """
    spec, design = fit.spec, fit.design
    columns = {spec.response: design.y}
    for i, name in enumerate(spec.column_names):
        if np.ptp(design.X[:, i]) > 0.0:
            columns[name] = design.X[:, i]
    for levels, factor in zip(spec.groupings, design.factors, strict=True):
        columns[levels.name] = levels.labels.take(factor.codes)
    extra = {".weights": design.weights, ".offset": design.offset}
    columns |= {name: values for name, values in extra.items() if values is not None}
    fitted = fitted_values(fit)
    columns |= {".fitted": fitted, ".resid": design.y - fitted, ".fixed": fixed_part(fit)}
    return pd.DataFrame(columns, index=row_index(fit))
