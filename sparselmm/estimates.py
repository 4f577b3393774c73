"""Fixed effects, scale and criteria of a fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.fit import Fit
from sparselmm.optimum import Optimum, Outcome

SINGULAR = 1e-4  # of sigma: lme4's tolerance, here for standard deviations of scaled columns


def names(fit: Fit) -> list[str]:
    """Names of all columns of X, those that were dropped among them."""
    return list(fit.spec.column_names)


def dropped(fit: Fit) -> list[str]:
    """Names of the columns of X that depend on earlier ones and were dropped."""
    kept = set(fit.kept.tolist())
    return [name for i, name in enumerate(names(fit)) if i not in kept]


def standard_errors(fit: Fit) -> Array:
    """Standard errors of the kept fixed effects, shape (p_kept,)."""
    return np.sqrt(np.diag(fit.cov_beta))


def expand(fit: Fit, values: Array) -> Array:
    """Values of the kept columns among all columns, NaN elsewhere, shape (p,)."""
    out = np.full(len(fit.spec.column_names), np.nan)
    out[fit.kept] = values
    return out


def _series(fit: Fit, values: Array, name: str) -> pd.Series:
    return pd.Series(expand(fit, values), index=names(fit), name=name)


def params(fit: Fit) -> pd.Series:
    """Fixed effects, shape (p,), by formulaic's names; NaN for columns dropped as dependent.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.params.round(3)
    Intercept    251.405
    Days          10.467
    Name: params, dtype: float64
    """
    return _series(fit, fit.beta, "params")


def bse(fit: Fit) -> pd.Series:
    """Standard errors of the fixed effects, shape (p,); NaN for dropped columns."""
    return _series(fit, standard_errors(fit), "bse")


def cov_params(fit: Fit) -> pd.DataFrame:
    """Covariance matrix of the fixed effects, shape (p, p); NaN for dropped columns.

    Notes
    -----
    sigma² (X'H^-1X)^-1 at the estimated theta (Bates et al. 2015, Journal of Statistical Software
    67(1), eq. 54), as lme4's ``vcov``.
    """
    full = np.full((len(names(fit)),) * 2, np.nan)
    full[np.ix_(fit.kept, fit.kept)] = fit.cov_beta
    return pd.DataFrame(full, index=names(fit), columns=names(fit))


def sigma(fit: Fit) -> float:
    """Residual standard deviation, at weight 1."""
    return float(np.sqrt(fit.sigma2))


def scale(fit: Fit) -> float:
    """Residual variance sigma², at weight 1."""
    return float(fit.sigma2)


def theta(fit: Fit) -> Array:
    """Relative covariance parameters, shape (n_theta,).

    Terms in lme4's order (decreasing number of levels), each the lower triangle of its relative
    covariance factor column by column.
    """
    return fit.theta.copy()


def deviance(fit: Fit) -> float:
    """Minus twice the fitted criterion: log-likelihood (ML), restricted log-likelihood (REML)."""
    return float(fit.deviance)


def llf(fit: Fit) -> float:
    """The log-likelihood; of a REML fit the restricted one."""
    return -0.5 * float(fit.deviance)


def df_model(fit: Fit) -> int:
    """Parameters: fixed effects kept, covariance parameters, and the residual variance."""
    return fit.p + fit.n_theta + 1


def df_resid(fit: Fit) -> int:
    """Rows minus parameters."""
    return fit.n - df_model(fit)


def nobs(fit: Fit) -> int:
    """Rows used."""
    return fit.n


def aic(fit: Fit) -> float:
    """Akaike's criterion: deviance + 2 df_model. REML fits compare only with equal fixed parts."""
    return float(fit.deviance + 2.0 * df_model(fit))


def bic(fit: Fit) -> float:
    """Schwarz's criterion: deviance + log(n) df_model; comparable where the AIC is."""
    return float(fit.deviance + np.log(fit.n) * df_model(fit))


def optimum(fit: Fit) -> Optimum:
    """How the optimum was found: outcome, certificate, and the log of all evaluations.

    ``log`` has one entry for each: ``theta`` (in the coordinates of `theta`, fit for ``start``),
    ``deviance``, ``score_norm`` (in standard errors), ``step``.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (1 | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.optimum.converged, round(fit.optimum.log[-1].deviance, 2)
    (True, 1786.47)
    """
    log = tuple(replace(entry, theta=user_theta(fit, entry.theta)) for entry in fit.optimum.log)
    return replace(fit.optimum, theta=fit.theta.copy(), log=log)


def user_theta(fit: Fit, internal: Array) -> Array:
    """theta in the user's coordinates, shape (n_theta,)."""
    T = fit.model.factors(internal)
    return fit.model.theta([fit.gram.basis.user_factor(j, t) for j, t in enumerate(T)])


def outcome(fit: Fit) -> Outcome:
    """How the fit ended; the value of the member is a sentence."""
    return fit.optimum.outcome


def converged(fit: Fit) -> bool:
    """Whether the certificate was passed; a singular fit is converged too."""
    return fit.optimum.converged


def is_singular(fit: Fit, tolerance: float = SINGULAR) -> bool:
    """Whether some combination of the random effects of a term has (nearly) no variance.

    Parameters
    ----------
    tolerance : float
        Standard deviation, relative to sigma, that counts as zero. Columns of a term are scaled to
        unit length first, so that units of measurement do not matter.
    """
    T = fit.solution.T
    blocks = (fit.model.block(T, part) for part in fit.model.parts)
    return any(np.linalg.svd(block, compute_uv=False)[-1] < tolerance for block in blocks)
