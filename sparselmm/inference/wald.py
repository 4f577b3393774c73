"""Wald intervals and tests of the fixed effects, from their estimates and covariance.

    t = (L beta - c) / sqrt(L V L')        W = (L beta - c)' (L V L')^+ (L beta - c) / rank

Without degrees of freedom t is compared with the normal distribution and W rank with chi-square;
with them (Satterthwaite, Kenward-Roger, a number) t with Student's t and W with F.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.estimates import dropped, expand, names, standard_errors
from sparselmm.fit import Fit
from sparselmm.inference.distributions import (
    check_level,
    chi2_tail,
    f_tail,
    two_sided_p,
    two_sided_quantile,
)
from sparselmm.inference.hypotheses import Hypotheses, parse_hypotheses
from sparselmm.inference.names import find_names
from sparselmm.varcorr import parameter_names

RANK = 1e-10  # eigenvalue of the scaled covariance of a hypothesis that counts as zero

Ddf = str | float | None


@dataclass(frozen=True, slots=True)
class ContrastTests:
    """One t or z test for every row of a hypothesis.

    Attributes
    ----------
    table : pandas.DataFrame
        Indexed by hypothesis: ``estimate, std_error, statistic, df, p_value, conf_low,
        conf_high``; the estimate is L beta, the statistic tests L beta = c.
    values : ndarray, shape (q,)
        c.
    level : float
        Of the intervals for L beta.
    """

    table: pd.DataFrame
    values: Array
    level: float

    def __str__(self) -> str:
        title = f"Tests of linear hypotheses, {100 * self.level:g} % intervals"
        return f"{title}\n{self.table.to_string(float_format=lambda x: f'{x:.4g}')}"

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format=lambda x: f"{x:.4g}")


@dataclass(frozen=True, slots=True)
class WaldTest:
    """A joint test of linear hypotheses.

    Attributes
    ----------
    statistic : float
        F with degrees of freedom, else chi-square.
    df : float
        Rank of the hypothesis.
    df_resid : float
        Denominator degrees of freedom; infinite for chi-square.
    p_value : float
    labels : tuple of str
        The hypotheses.
    """

    statistic: float
    df: int
    df_resid: float
    p_value: float
    labels: tuple[str, ...]

    @property
    def distribution(self) -> str:
        """``"chi2"`` or ``"F"``."""
        return "chi2" if np.isinf(self.df_resid) else "F"

    def __str__(self) -> str:
        if np.isinf(self.df_resid):
            head = f"chi2({self.df}) = {self.statistic:.4f}"
        else:
            head = f"F({self.df}, {self.df_resid:.4g}) = {self.statistic:.4f}"
        return f"Wald test: {head}, p = {self.p_value:.4g}\n" + "\n".join(
            f"    {label}" for label in self.labels
        )


def tvalues(fit: Fit) -> pd.Series:
    """Fixed effects over their standard errors, shape (p,); NaN for dropped columns."""
    return pd.Series(expand(fit, fit.beta / standard_errors(fit)), names(fit), name="tvalues")


def pvalues(fit: Fit) -> pd.Series:
    """Two-sided p-values of zero fixed effects, shape (p,), normal distribution.

    `tidy(ddf=...)` and `summary(ddf=...)` compare with Student's t.
    """
    p = two_sided_p(fit.beta / standard_errors(fit))
    return pd.Series(expand(fit, p), names(fit), name="pvalues")


def wald_intervals(
    fit: Fit, level: float = 0.95, parm: str | Sequence[str] | None = None, ddf: Ddf = None
) -> pd.DataFrame:
    """Intervals of the fixed effects, normal or with degrees of freedom those of Student's t.

    Returns
    -------
    pandas.DataFrame
        Columns ``lower, upper``, indexed by fixed effect; NaN for dropped columns.
    """
    beta, covariance, df = contrast_moments(fit, np.eye(fit.p), ddf)
    half = two_sided_quantile(check_level(level), df) * np.sqrt(np.diag(covariance))
    bounds = {"lower": expand(fit, beta - half), "upper": expand(fit, beta + half)}
    frame = pd.DataFrame(bounds, index=names(fit))
    return frame if parm is None else frame.loc[find_names(parm, names(fit), hint=_hint(fit, parm))]


def _hint(fit: Fit, parm: str | Sequence[str]) -> str:
    """Where to find variances, when one is asked for."""
    asked = [parm] if isinstance(parm, str) else list(parm)
    if not any(str(name).startswith(("sd_", "cor_", "sigma")) for name in asked):
        return ""
    return f" For {', '.join(parameter_names(fit))} use method='profile' or 'bootstrap'."


def fixed_hypotheses(fit: Fit, hypothesis: Any) -> tuple[Hypotheses, Array]:
    """A hypothesis over all columns of X, and its L restricted to the kept ones, (q, p_kept).

    Raises
    ------
    InferenceError
        As `parse_hypotheses`, and for weight on a column that was dropped.
    """
    rows = parse_hypotheses(hypothesis, names(fit))
    gone = np.setdiff1d(np.arange(rows.L.shape[1]), fit.kept)
    for row, label in zip(rows.L, rows.labels, strict=True):
        if row[gone].any():
            raise InferenceError(
                f"Hypothesis '{label}' uses a coefficient that was dropped because its column "
                f"depends on earlier ones ({', '.join(dropped(fit))}); expected coefficients that "
                "were estimated."
            )
    return rows, rows.L[:, fit.kept]


def contrast_moments(fit: Fit, L: Array, ddf: Ddf) -> tuple[Array, Array, Array]:
    """L beta (q,), its covariance (q, q), and degrees of freedom of every row (q,).

    Parameters
    ----------
    L : ndarray, shape (q, p_kept)
    ddf : str, float or None
        A method of `sparselmm.inference.ddf`, a number, or None for infinity.
    """
    V, df = fit.cov_beta, np.full(len(L), np.inf)
    if isinstance(ddf, str):
        from sparselmm.inference import ddf as methods

        V, df = methods.covariance(fit, ddf), methods.ddf(fit, L, ddf)
    elif ddf is not None:
        df = np.full(len(L), check_df(ddf))
    return L @ fit.beta, L @ V @ L.T, df


def check_df(ddf: float) -> float:
    """Degrees of freedom given as a number.

    Raises
    ------
    InferenceError
        When they are not positive.
    """
    if not isinstance(ddf, (int, float, np.number)) or not ddf > 0:
        raise InferenceError(
            f"Found ddf={ddf!r}; expected None, a positive number, 'satterthwaite' or "
            "'kenward-roger'."
        )
    return float(ddf)


def t_test(fit: Fit, hypothesis: Any, ddf: Ddf = None, level: float = 0.95) -> ContrastTests:
    """Test every row of a linear hypothesis L beta = c.

    Parameters
    ----------
    hypothesis : str, sequence of str, mapping, frame or array
        ``"x1 - x2 = 0, z = 1"``, names with weights, or L of shape (q, p); a pair (L, c) sets the
        right sides. See `parse_hypotheses`.
    ddf : str, float or None
        ``"satterthwaite"`` or ``"kenward-roger"`` (which also adjusts the standard errors), a
        number, or None for the normal distribution.
    level : float
        Of the confidence intervals.

    Raises
    ------
    InferenceError
        For a hypothesis that cannot be read, and one that needs a dropped column.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.t_test("Days = 5, Intercept + 9*Days").table.round(2).iloc[:, :3]
                        estimate  std_error  statistic
    Days = 5               10.47       1.55       3.54
    Intercept + 9*Days    345.61      14.63      23.63
    """
    rows, L = fixed_hypotheses(fit, hypothesis)
    estimate, covariance, df = contrast_moments(fit, L, ddf)
    error = np.sqrt(np.diag(covariance))
    statistic = (estimate - rows.values) / error
    half = two_sided_quantile(check_level(level), df) * error
    table = pd.DataFrame(
        {
            "estimate": estimate,
            "std_error": error,
            "statistic": statistic,
            "df": df,
            "p_value": two_sided_p(statistic, df),
            "conf_low": estimate - half,
            "conf_high": estimate + half,
        },
        index=list(rows.labels),
    )
    return ContrastTests(table, rows.values, level)


def wald_test(fit: Fit, hypothesis: Any, ddf: Ddf = None) -> WaldTest:
    """Test all rows of a linear hypothesis L beta = c together.

    Parameters
    ----------
    hypothesis : str, sequence of str, mapping, frame or array
        As in `t_test`. Rows that repeat others do not count.
    ddf : str, float or None
        ``"satterthwaite"`` or ``"kenward-roger"`` for an F test with these denominator degrees of
        freedom, a number of them, or None for chi-square.

    Raises
    ------
    InferenceError
        As `t_test`, and when rows contradict each other.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> print(fit.wald_test("Intercept = 250, Days = 10"))
    Wald test: chi2(2) = 0.1538, p = 0.926
        Intercept = 250
        Days = 10
    """
    rows, L = fixed_hypotheses(fit, hypothesis)
    if isinstance(ddf, str):
        from sparselmm.inference import ddf as methods

        statistic, df, df_resid = methods.f_statistic(fit, L, rows.values, ddf)
        return WaldTest(statistic, df, df_resid, f_tail(statistic, df, df_resid), rows.labels)
    difference = L @ fit.beta - rows.values
    chi2, rank = quadratic_form(L @ fit.cov_beta @ L.T, difference)
    if ddf is None:
        return WaldTest(chi2, rank, np.inf, chi2_tail(chi2, rank), rows.labels)
    df_resid = check_df(ddf)
    p = f_tail(chi2 / rank, rank, df_resid)
    return WaldTest(chi2 / rank, rank, df_resid, p, rows.labels)


def quadratic_form(C: Array, d: Array) -> tuple[float, int]:
    """d' C^+ d and the rank of C, after scaling C to unit diagonal.

    Raises
    ------
    InferenceError
        When d does not lie in the range of C: the rows contradict each other.
    """
    scale = np.sqrt(np.diag(C))
    values, vectors = np.linalg.eigh(C / np.outer(scale, scale))
    keep = values > RANK * len(values)
    z = vectors.T @ (d / scale)
    if np.abs(z[~keep]).max(initial=0.0) > 1e-6 * np.abs(z).max(initial=1.0):
        raise InferenceError(
            "Rows of the hypothesis contradict each other; expected rows that can hold together."
        )
    return float((z[keep] ** 2 / values[keep]).sum()), int(keep.sum())
