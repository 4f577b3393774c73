"""Covariance matrix of the parameters, and the standard errors, p-values and intervals that come from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._types import Array

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.results import MixedLMResults


def covariance(self: MixedLMResults) -> Array:
    """Inverse information over the elements that were estimated; zero for those held fixed."""
    H, _ = self._information
    estimated = np.ones(len(H), dtype=bool) if self._active is None else self._active
    held = np.zeros(len(H), dtype=bool)
    if self.freepat is not None:
        held = self.freepat.get_packed(use_sqrt=False, has_fe=True) == 0
    chosen = np.flatnonzero(estimated & ~held & np.isfinite(np.diag(H)))
    out = np.full_like(H, np.nan)
    out[held] = out[:, held] = 0.0
    try:
        out[np.ix_(chosen, chosen)] = np.linalg.inv(-H[np.ix_(chosen, chosen)])
    except np.linalg.LinAlgError:
        return out
    return out


def cov_params(
    self: MixedLMResults,
    r_matrix: Any = None,
    column: Any = None,
    scale: float | None = None,
    cov_p: Any = None,
    other: Any = None,
) -> Any:
    """Covariance matrix of the parameters, or of linear combinations of them.

    Parameters
    ----------
    r_matrix : array_like, optional
        Rows of coefficients, over all parameters or over the fixed effects.
    column : int or array_like of int, optional
        The variance of one parameter, or the covariance matrix of some.
    scale : float, optional
        Factor of `normalized_cov_params`; `scale` of the fit when not given.
    cov_p : array_like, optional
        A covariance matrix to use instead.
    other : array_like, optional
        Covariances of the rows of `r_matrix` with these.
    """
    if column is not None and (r_matrix is not None or other is not None):
        raise ValueError(
            "Found column beside r_matrix or other; expected one of them. Column should be specified "
            "without other arguments."
        )
    if other is not None and r_matrix is None:
        raise ValueError("other can only be specified with r_matrix; give r_matrix too.")
    V = self._covariance if scale is None else self._covariance * (scale / self.scale)
    V = V if cov_p is None else np.asarray(cov_p, dtype=float)
    if column is not None:
        return V[column, column] if np.ndim(column) == 0 else V[np.ix_(column, column)]
    if r_matrix is None:
        return self._square(V, self.model.data.param_names)
    R = np.asarray(r_matrix, dtype=float)
    if R.ndim == 0:
        raise ValueError(f"r_matrix should be 1d or 2d; found the number {r_matrix!r}; give a row.")
    S = R if other is None else np.asarray(other, dtype=float)
    return R @ V[: R.shape[-1], : S.shape[-1]] @ S.T


def standard_errors(self: MixedLMResults) -> Array:
    """(k,) standard errors of `params`."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.diag(self._covariance))


def t_values(self: MixedLMResults) -> Array:
    """(k,) parameters divided by their standard errors."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(self.params) / standard_errors(self)


def p_values(self: MixedLMResults) -> Array:
    """(k,) two-sided, from the normal distribution, or from t with `use_t`."""
    from scipy.special import ndtr, stdtr

    below = -np.abs(t_values(self))
    return 2.0 * (stdtr(float(self.df_resid), below) if self.use_t else ndtr(below))


def conf_int(self: MixedLMResults, alpha: float = 0.05, cols: Any = None) -> Any:
    """Wald intervals of `params`.

    Parameters
    ----------
    alpha : float
    cols : array_like of int, optional
        Which parameters.

    Returns
    -------
    ndarray or DataFrame, shape (m, 2)
    """
    from scipy.special import ndtri, stdtrit

    df = float(self.df_resid)
    quantile = stdtrit(df, alpha / 2.0) if self.use_t else ndtri(alpha / 2.0)
    half = -quantile * standard_errors(self)
    params = np.asarray(self.params)
    limits = np.column_stack([params - half, params + half])
    names = np.array(self.model.data.param_names)
    if cols is not None:
        limits, names = limits[np.asarray(cols)], names[np.asarray(cols)]
    return pd.DataFrame(limits, index=names) if self.model.data.labelled else limits
