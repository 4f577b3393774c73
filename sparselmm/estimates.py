"""Fixed effects and criteria of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparselmm._types import Array
from sparselmm.fit import Fit

if TYPE_CHECKING:
    import pandas as pd


def params(fit: Fit) -> pd.Series:
    """Fixed effects, shape (p,); columns that were dropped as dependent are NaN."""
    return _series(fit, fit.beta, "params")


def bse(fit: Fit) -> pd.Series:
    """Standard errors of the fixed effects, shape (p,); NaN for dropped columns."""
    return _series(fit, standard_errors(fit), "bse")


def standard_errors(fit: Fit) -> Array:
    """Standard errors of the kept fixed effects, shape (p_kept,)."""
    return np.sqrt(np.diag(fit.cov_beta))


def cov_params(fit: Fit) -> pd.DataFrame:
    """Covariance matrix of the fixed effects, shape (p, p); NaN for dropped columns."""
    import pandas as pd

    names = list(fit.spec.column_names)
    full = np.full((len(names), len(names)), np.nan)
    full[np.ix_(fit.kept, fit.kept)] = fit.cov_beta
    return pd.DataFrame(full, index=names, columns=names)


def expand(fit: Fit, values: Array) -> Array:
    """Values of the kept columns among all columns, NaN elsewhere, shape (p, ...)."""
    out = np.full((len(fit.spec.column_names), *values.shape[1:]), np.nan)
    out[fit.kept] = values
    return out


def _series(fit: Fit, values: Array, name: str) -> pd.Series:
    import pandas as pd

    return pd.Series(expand(fit, values), index=list(fit.spec.column_names), name=name)


def sigma(fit: Fit) -> float:
    """Residual standard deviation, at weight 1."""
    return float(np.sqrt(fit.sigma2))


def scale(fit: Fit) -> float:
    """Residual variance sigma², at weight 1."""
    return fit.sigma2


def theta(fit: Fit) -> Array:
    """Relative covariance parameters in lme4's order, shape (n_theta,)."""
    return fit.theta.copy()


def deviance(fit: Fit) -> float:
    """Minus twice the fitted criterion: log-likelihood (ML) or restricted log-likelihood (REML)."""
    return fit.deviance


def llf(fit: Fit) -> float:
    """The log-likelihood; of a REML fit the restricted one."""
    return -0.5 * fit.deviance


def df_model(fit: Fit) -> int:
    """Parameters: fixed effects kept, covariance parameters, and the residual variance."""
    return fit.p + fit.n_theta + 1


def nobs(fit: Fit) -> int:
    """Rows used."""
    return fit.n


def aic(fit: Fit) -> float:
    """Akaike's criterion, deviance + 2 df; of REML fits only with equal fixed parts comparable."""
    return fit.deviance + 2.0 * df_model(fit)


def bic(fit: Fit) -> float:
    """Schwarz's criterion, deviance + log(n) df; of REML fits comparable as the AIC is."""
    return float(fit.deviance + np.log(fit.n) * df_model(fit))
