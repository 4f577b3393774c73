"""Shares of variance: intraclass correlations, R², and the principal components of the random effects.

    var_fixed = Var(x_i'beta)        var_random = mean over rows of z_i'Sigma z_i        var_residual = sigma2

The mean over rows is Johnson's extension to random slopes (2014, Methods in Ecology and Evolution 5, 944-946)
of Nakagawa & Schielzeth (2013, Methods in Ecology and Evolution 4, 133-142).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm.fit import Fit
from sparselmm.varcorr import group_names


@dataclass(frozen=True, slots=True)
class IntraclassCorrelation:
    """Shares of the random effects in the variance.

    Attributes
    ----------
    adjusted : float
        var_random / (var_random + var_residual).
    unadjusted : float
        The same with var_fixed in the denominator.
    groups : pandas.Series
        Adjusted shares by random-effects term.
    """

    adjusted: float
    unadjusted: float
    groups: pd.Series

    def __float__(self) -> float:
        return self.adjusted

    def __str__(self) -> str:
        head = f"ICC: {self.adjusted:.4f} adjusted, {self.unadjusted:.4f} unadjusted"
        rows = [f"    {name}: {share:.4f}" for name, share in self.groups.items()]
        return "\n".join([head, *rows])


@dataclass(frozen=True, slots=True)
class R2:
    """Explained variance.

    Attributes
    ----------
    marginal : float
        By the fixed effects.
    conditional : float
        By fixed and random effects.
    """

    marginal: float
    conditional: float

    def __str__(self) -> str:
        return f"R²: {self.marginal:.4f} marginal, {self.conditional:.4f} conditional"


@dataclass(frozen=True, slots=True)
class VarianceParts:
    """The three variances of the module's formula; the random one by term."""

    fixed: float
    random: pd.Series
    residual: float


def variance_parts(fit: Fit) -> VarianceParts:
    """Variances of fixed part, random terms and residual. O(n (p + s²))."""
    fixed = np.var(fit.design.X[:, fit.kept] @ fit.beta, ddof=1)
    shares = {}
    for part, name in zip(fit.model.parts, group_names(fit.spec.terms), strict=True):
        Q = fit.design.factors[part.factor].Q[:, part.columns]
        T = fit.model.block(fit.T, part)
        shares[name] = fit.sigma2 * float(np.vdot(T @ T.T, Q.T @ Q)) / fit.n
    return VarianceParts(float(fixed), pd.Series(shares, dtype=float), float(fit.sigma2))


def icc(fit: Fit) -> IntraclassCorrelation:
    """Intraclass correlations: the share of the random effects in the variance.

    Notes
    -----
    With random slopes the variance of the random effects depends on the row; its mean is taken.
    The residual variance is that at weight 1.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> print(fit.icc())
    ICC: 0.7217 adjusted, 0.5206 unadjusted
        Subject: 0.7217
    """
    parts = variance_parts(fit)
    random, total = parts.random.sum(), parts.random.sum() + parts.residual
    groups = parts.random / total
    return IntraclassCorrelation(
        float(random / total), float(random / (total + parts.fixed)), groups
    )


def r2(fit: Fit) -> R2:
    """Marginal and conditional R² (Nakagawa & Schielzeth; random slopes after Johnson).

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> print(fit.r2())
    R²: 0.2787 marginal, 0.7992 conditional
    """
    parts = variance_parts(fit)
    random = parts.random.sum()
    total = parts.fixed + random + parts.residual
    return R2(float(parts.fixed / total), float((parts.fixed + random) / total))


def re_pca(fit: Fit) -> pd.DataFrame:
    """Principal components of the random effects, term by term.

    Returns
    -------
    pandas.DataFrame
        Columns ``grp, component, sd, proportion, cumulative``, then one column of loadings per
        effect. A standard deviation of (nearly) zero is a direction the term does not need.

    Notes
    -----
    The singular values of T_j times sigma, as lme4's ``rePCA`` (Bates, Kliegl, Vasishth & Baayen
    2015, arXiv 1506.04967).

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.re_pca().round(3)
           grp  component      sd  proportion  cumulative  Intercept   Days
    0  Subject          1  24.744       0.946       0.946      1.000  0.017
    1  Subject          2   5.909       0.054       1.000     -0.017  1.000
    """
    frames = []
    for term, part, name in zip(
        fit.spec.terms, fit.model.parts, group_names(fit.spec.terms), strict=True
    ):
        left, values, _ = np.linalg.svd(fit.model.block(fit.T, part))
        left = left * np.where(left[np.abs(left).argmax(axis=0), np.arange(len(left))] < 0, -1, 1)
        share = values**2 / max(float((values**2).sum()), np.finfo(float).tiny)
        frame = pd.DataFrame(
            {
                "grp": name,
                "component": np.arange(1, len(values) + 1),
                "sd": np.sqrt(fit.sigma2) * values,
                "proportion": share,
                "cumulative": np.cumsum(share),
            }
        )
        frames.append(frame.assign(**dict(zip(term.columns, left, strict=True))))
    return pd.concat(frames, ignore_index=True)
