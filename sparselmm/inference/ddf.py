"""Denominator degrees of freedom of tests about the fixed effects.

satterthwaite   nu = 2 (l'Cl)² / Var(l'Cl), the variance by the delta method from the observed information of
                (theta, sigma); F tests of several rows from the nu_m of their independent contrasts (Fai &
                Cornelius 1996, J. Stat. Comput. Simul. 54, 363-378), both as in lmerTest (Kuznetsova, Brockhoff &
                Christensen 2017, J. Stat. Softw. 82(13))
kenward-roger   adjusted covariance and scaled F (`sparselmm.inference.kenward_roger`); REML fits only
residual        n - p, as if there were no random effects
inf             none: normal and chi-square
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.estimates import names
from sparselmm.fit import Fit
from sparselmm.inference.kenward_roger import kenward_roger, wald_moments
from sparselmm.inference.wald import fixed_hypotheses, quadratic_form
from sparselmm.information import Information, observed_information

METHODS = ("satterthwaite", "kenward-roger", "residual", "inf")
EQUAL = 1e-8  # difference of degrees of freedom below which they count as one
RANK = np.sqrt(np.finfo(float).eps)  # relative size of an eigenvalue of L C L' that counts as zero


def check_method(method: Any) -> str:
    """The name of a method.

    Raises
    ------
    InferenceError
        When there is no such method.
    """
    if method not in METHODS:
        shown = ", ".join(repr(known) for known in METHODS)
        raise InferenceError(f"Found ddf={method!r}; expected one of {shown}.")
    return method


def degrees_of_freedom(
    fit: Fit, hypothesis: Any = None, method: str = "satterthwaite"
) -> pd.Series:
    """Denominator degrees of freedom of fixed effects or of contrasts of them.

    Parameters
    ----------
    hypothesis : str, sequence of str, mapping, frame or array, optional
        Contrasts as in `t_test`; by default every coefficient.
    method : str
        ``"satterthwaite"``, ``"kenward-roger"`` (REML fits), ``"residual"`` or ``"inf"``.

    Returns
    -------
    pandas.Series
        One value per contrast; NaN for coefficients of dropped columns.

    Raises
    ------
    InferenceError
        For an unknown method, a hypothesis that cannot be read, Kenward-Roger after ML or where it
        would take too long.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.ddf().round(2)
    Intercept    17.0
    Days         17.0
    Name: df, dtype: float64
    >>> fit.ddf("Intercept + 9*Days", method="kenward-roger").round(2)
    Intercept + 9*Days    17.0
    Name: df, dtype: float64
    """
    check_method(method)
    if hypothesis is None:
        values = np.full(len(fit.spec.column_names), np.nan)
        values[fit.kept] = ddf(fit, np.eye(fit.p), method)
        return pd.Series(values, index=names(fit), name="df")
    if isinstance(hypothesis, str) and hypothesis in METHODS and hypothesis not in names(fit):
        raise InferenceError(
            f"Found the method {hypothesis!r} where a hypothesis stands; expected a hypothesis such as 'x1 - x2'. "
            f"Write method={hypothesis!r}."
        )
    rows, L = fixed_hypotheses(fit, hypothesis)
    return pd.Series(ddf(fit, L, method), index=list(rows.labels), name="df")


def ddf(fit: Fit, L: Array, method: str) -> Array:
    """Degrees of freedom of every row of L, shape (q,).

    Parameters
    ----------
    L : ndarray, shape (q, p_kept)
    method : str
        One of `METHODS`.
    """
    check_method(method)
    if method == "satterthwaite":
        return satterthwaite(observed_information(fit), fit.cov_beta, L)
    if method == "kenward-roger":
        kr = kenward_roger(fit)
        return np.array([wald_moments(kr, row[None])[0] for row in L])
    return np.full(len(L), float(fit.n - fit.p) if method == "residual" else np.inf)


def covariance(fit: Fit, method: str) -> Array:
    """Covariance matrix of the fixed effects that goes with a method, shape (p_kept, p_kept)."""
    return kenward_roger(fit).cov_beta if check_method(method) == "kenward-roger" else fit.cov_beta


def satterthwaite(information: Information, cov_beta: Array, L: Array) -> Array:
    """2 (l'Cl)² / Var(l'Cl) for every row l of L, shape (q,)."""
    variance = np.einsum("ia,ab,ib->i", L, cov_beta, L)
    slopes = np.einsum("ia,mab,ib->im", L, information.cov_beta_gradient, L, optimize=True)
    spread = np.einsum("im,mk,ik->i", slopes, information.covariance, slopes)
    return 2.0 * variance**2 / spread


@dataclass(frozen=True, slots=True)
class FTest:
    """An F test.

    Attributes
    ----------
    statistic : float
    df, df_resid : int and float
        Numerator and denominator degrees of freedom.
    scale : float
        Factor of Kenward and Roger that the statistic carries.
    """

    statistic: float
    df: int
    df_resid: float
    scale: float = 1.0


def f_statistic(fit: Fit, L: Array, values: Array, method: str) -> tuple[float, int, float]:
    """F test of L beta = c: statistic, numerator and denominator degrees of freedom; see `f_test`."""
    test = f_test(fit, L, values, method)
    return test.statistic, test.df, test.df_resid


def f_test(fit: Fit, L: Array, values: Array, method: str) -> FTest:
    """F test of L beta = c.

    Parameters
    ----------
    L : ndarray, shape (q, p_kept)
        Rows may depend on each other.
    values : ndarray, shape (q,)
        c.
    method : str
        One of `METHODS`.
    """
    V = covariance(fit, method)
    wald, rank = quadratic_form(L @ V @ L.T, L @ fit.beta - values)
    if method == "kenward-roger":
        df, scale = wald_moments(kenward_roger(fit), independent_rows(L))
        return FTest(scale * wald / rank, rank, df, scale)
    if method == "satterthwaite":
        return FTest(wald / rank, rank, f_ddf(ddf(fit, independent_contrasts(L, V), method)))
    return FTest(wald / rank, rank, float(ddf(fit, L[:1], method)[0]))


def independent_rows(L: Array) -> Array:
    """Orthonormal rows that span those of L, shape (rank, p)."""
    _, values, rows = np.linalg.svd(L, full_matrices=False)
    return rows[values > RANK * values[0]]


def independent_contrasts(L: Array, V: Array) -> Array:
    """Combinations of the rows of L whose estimates are uncorrelated, shape (rank, p)."""
    values, vectors = np.linalg.eigh(L @ V @ L.T)
    return vectors[:, values > RANK * values[-1]].T @ L


def f_ddf(nu: Array) -> float:
    """Denominator degrees of freedom of the mean of squares of independent t with `nu` each.

    Notes
    -----
    E = sum nu / (nu - 2) is the expectation of the sum; F(q, m) has expectation m / (m - 2), so that
    m = 2 E / (E - q) (Fai & Cornelius 1996). At 2 or below there is no expectation, and m = 2.
    """
    if np.ptp(nu) < EQUAL:
        return float(nu.mean())
    if (nu <= 2.0).any():
        return 2.0
    expectation = float((nu / (nu - 2.0)).sum())
    return 2.0 * expectation / (expectation - len(nu))
