"""Estimated marginal means: the fixed part over a balanced grid of its factors, averaged, and contrasts of that.

Row i of L is the average of the rows of X at the grid points of mean i; mean = L beta, and degrees of freedom and
covariance come from the same place as those of `t_test`. Written here rather than left to the marginaleffects
package: on a `MixedLM` that package gives the same means and standard errors (a test says so), but it knows no
Satterthwaite or Kenward-Roger degrees of freedom and no adjustment for multiplicity, and needs the data kept.

References: Searle, Speed & Milliken (1980), The American Statistician 34, 216-221; Tukey's adjustment after Kramer
(1956), Biometrics 12, 307-310.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.estimates import names
from sparselmm.fit import Fit
from sparselmm.inference.contrasts import MeanContrasts, contrast_weights, html, text
from sparselmm.inference.distributions import check_level, two_sided_quantile
from sparselmm.inference.multiplicity import (
    ADJUSTMENTS,
    adjusted_p,
    adjusted_quantile,
)
from sparselmm.inference.wald import Ddf, contrast_moments

ALIASED = (
    1e-6  # weight on a dropped column, beyond what kept ones explain, that cannot be estimated
)


@dataclass(frozen=True, slots=True)
class MarginalMeans:
    """Estimated marginal means.

    Attributes
    ----------
    table : pandas.DataFrame
        The factors, then ``estimate, std_error, df, conf_low, conf_high``; NaN where a dropped
        column makes a mean not estimable.
    L : ndarray, shape (q, p_kept)
        mean = L beta.
    by : tuple of str
        Factors within whose levels contrasts are taken.
    at : dict
        Where other variables were held.
    over : tuple of str
        Variables over whose values the means are averages.
    fit : Fit
    ddf : str, float or None
    level : float
    """

    table: pd.DataFrame
    L: Array
    by: tuple[str, ...]
    at: dict[str, Any]
    over: tuple[str, ...]
    fit: Fit
    ddf: Ddf
    level: float

    @property
    def factors(self) -> list[str]:
        """Names of the columns that say which mean a row is."""
        return list(self.table.columns[: -len(_MOMENTS)])

    def labels(self) -> list[str]:
        """One text per mean, from the factors that are not in `by`."""
        own = self.table[[name for name in self.factors if name not in self.by]]
        return [" ".join(map(str, row)) for row in own.itertuples(index=False)]

    def contrasts(
        self,
        method: str | Mapping[str, Sequence[float]] = "pairwise",
        adjust: str | None = None,
    ) -> MeanContrasts:
        """Contrasts between the means, within the levels of `by`.

        Parameters
        ----------
        method : str or mapping
            ``"pairwise"``: all differences. ``"control"``: each minus the first. ``"deviation"``:
            each minus the average. Or weights by name, one per mean of a level of `by`.
        adjust : str, optional
            ``"tukey"`` (the default for pairwise), ``"holm"`` (otherwise), ``"bonferroni"``,
            ``"sidak"``, ``"fdr"``, ``"none"``. A family is one level of `by`. Intervals are
            Tukey's, Sidak's, or, for all others but ``"none"``, Bonferroni's (as in R's emmeans):
            the print says so.

        Raises
        ------
        InferenceError
            For an unknown method or adjustment, and weights of the wrong number.

        Examples
        --------
        >>> import sparselmm as slm
        >>> cake = slm.load_dataset("cake")
        >>> fit = slm.lmm("angle ~ recipe + temperature + (1 | recipe:replicate)", cake)
        >>> fit.emmeans("recipe").contrasts().table.iloc[:, :6].round(3)
          contrast  estimate  std_error  statistic    df  p_value
        0    A - B     1.478      2.456      0.602  42.0     0.82
        1    A - C     1.522      2.456      0.620  42.0     0.81
        2    B - C     0.044      2.456      0.018  42.0     1.00
        """
        labels = self.labels()
        weights = contrast_weights([labels[i] for i in _families(self)[0]], method)
        adjust = adjust or ("tukey" if method == "pairwise" else "holm")
        if adjust not in ADJUSTMENTS or (adjust == "tukey" and method != "pairwise"):
            shown = ", ".join(repr(a) for a in ADJUSTMENTS)
            raise InferenceError(
                f"Found adjust={adjust!r} for method={method!r}; expected one of {shown} ('tukey' for "
                "pairwise differences only)."
            )
        table = _contrast_table(self, weights, adjust)
        means = len(next(iter(weights.values())))
        return MeanContrasts(table, adjust, self.level, means, len(weights))

    @property
    def notes(self) -> list[str]:
        """What the means are of, in words."""
        lines = [f"Averaged over the levels of: {', '.join(self.over)}"] if self.over else []
        if self.at:
            lines.append(f"At {', '.join(f'{name} = {_short(v)}' for name, v in self.at.items())}")
        lines += [
            f"Note: {', '.join(own)} interacts with {', '.join(others)}, over which it is averaged"
            for own, others in _mixed(self.fit, self.factors, self.over)
        ]
        return [*lines, f"{100 * self.level:g} % intervals, ddf: {self.ddf}"]

    def __str__(self) -> str:
        return "\n".join(["Estimated marginal means", text(self.table), *self.notes])

    def _repr_html_(self) -> str:
        return html(self.table) + "".join(f"<p>{note}</p>" for note in self.notes)


_MOMENTS = ("estimate", "std_error", "df", "conf_low", "conf_high")


def emmeans(
    fit: Fit,
    factors: str | Sequence[str],
    by: str | Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
    ddf: Ddf = "satterthwaite",
    level: float = 0.95,
) -> MarginalMeans:
    """Means of the response at the levels of some factors, averaged evenly over the other factors.

    Parameters
    ----------
    factors : str or sequence of str
        Categorical variables of the fixed part, or numeric ones given in `at`.
    by : str or sequence of str, optional
        More of them; contrasts are taken within their levels.
    at : mapping, optional
        Values for variables: a list for those in `factors` or `by`, one value (or a list to
        average over) for others. Numeric variables are held at their mean by default.
    ddf : str, float or None
        As in `t_test`.
    level : float
        Of the confidence intervals.

    Raises
    ------
    InferenceError
        For a name that is no variable of the fixed part or stands twice, a numeric variable without values, and
        one whose mean cannot be read off X because it is transformed.

    Examples
    --------
    >>> import sparselmm as slm
    >>> cake = slm.load_dataset("cake")
    >>> fit = slm.lmm("angle ~ recipe + temperature + (1 | recipe:replicate)", cake)
    >>> fit.emmeans("recipe").table.round(2)
      recipe  estimate  std_error    df  conf_low  conf_high
    0      A     33.12       1.74  42.0     29.62      36.63
    1      B     31.64       1.74  42.0     28.14      35.15
    2      C     31.60       1.74  42.0     28.09      35.11
    """
    own, within = _asked(factors, by)
    half_level = check_level(level)
    wanted = [*within, *own]
    values = _values(fit, wanted, dict(at or {}))
    grid = pd.MultiIndex.from_product(values.values(), names=list(values)).to_frame(index=False)
    X = np.asarray(fit.spec.encode(grid, terms=()).X)
    groups = grid.groupby(wanted, sort=False, observed=True)
    size = len(grid) // groups.ngroups
    order = np.argsort(groups.ngroup().to_numpy(), kind="stable")
    full = X[order].reshape(-1, size, X.shape[1]).mean(axis=1)
    cells = grid.iloc[order[::size]][wanted].reset_index(drop=True)
    L = full[:, fit.kept]
    moments = _moments(fit, L, ddf, half_level)
    moments.loc[~_estimable(fit, full)] = np.nan
    held = {name: v[0] for name, v in values.items() if name not in wanted and len(v) == 1}
    over = tuple(name for name, v in values.items() if name not in wanted and len(v) > 1)
    table = pd.concat([cells[[*own, *within]], moments], axis=1)
    return MarginalMeans(table, L, tuple(within), held, over, fit, ddf, level)


def _mixed(
    fit: Fit, shown: Sequence[str], over: Sequence[str]
) -> list[tuple[list[str], list[str]]]:
    """Variables shown and averaged over that stand in one term of the fixed part."""
    found = []
    for term in fit.spec.fixed.terms:
        parts = term.split(":")
        own, others = ([name for name in names if name in parts] for names in (shown, over))
        if own and others and (own, others) not in found:
            found.append((own, others))
    return found


def _asked(
    factors: str | Sequence[str], by: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Factors and `by` as lists without repetitions."""
    own, within = (
        list(dict.fromkeys([names] if isinstance(names, str) else names or []))
        for names in (factors, by)
    )
    twice = [name for name in own if name in within]
    if twice or not own:
        found = f"'{twice[0]}' in factors and in by" if twice else "no factor"
        raise InferenceError(f"Found {found}; expected factors, each in one place.")
    return own, within


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float, np.number)) else str(value)


def _moments(fit: Fit, L: Array, ddf: Ddf, level: float) -> pd.DataFrame:
    estimate, covariance, df = contrast_moments(fit, L, ddf)
    error = np.sqrt(np.diag(covariance))
    half = two_sided_quantile(level, df) * error
    columns = (estimate, error, df, estimate - half, estimate + half)
    return pd.DataFrame(dict(zip(_MOMENTS, columns, strict=True)))


def _values(fit: Fit, wanted: Sequence[str], at: dict[str, Any]) -> dict[str, list[Any]]:
    """Grid values of every variable of the fixed part, those asked for first."""
    encoder = fit.spec.fixed
    variables = list(encoder.variables)
    for name in [*wanted, *at]:
        if name not in variables:
            known = ", ".join(f"'{v}'" for v in variables) or "none"
            raise InferenceError(f"Found '{name}'; expected variables of the fixed part ({known}).")
    categories = getattr(encoder, "categories", {})
    values: dict[str, list[Any]] = {}
    for name in dict.fromkeys([*wanted, *variables]):
        if name in at:
            given = at[name]
            values[name] = [given] if np.isscalar(given) else list(given)
        elif name in categories:
            values[name] = list(categories[name])
        elif name in wanted:
            raise InferenceError(
                f"Found numeric '{name}' among the factors; expected its values, such as "
                f"at={{'{name}': [...]}}."
            )
        else:
            values[name] = [_mean(fit, name)]
    return values


def _mean(fit: Fit, name: str) -> float:
    """Mean of a numeric variable that is a column of X."""
    if name in names(fit):
        return float(fit.design.X[:, names(fit).index(name)].mean())
    raise InferenceError(
        f"Found '{name}' only inside transformations, so that its mean is not known here; give its "
        f"value: at={{'{name}': ...}}."
    )


def _estimable(fit: Fit, full: Array) -> Array:
    """Whether rows of L over all columns give the same mean whichever columns are dropped."""
    gone = np.setdiff1d(np.arange(full.shape[1]), fit.kept)
    if not len(gone):
        return np.ones(len(full), bool)
    X = fit.design.X
    alias = np.linalg.lstsq(X[:, fit.kept], X[:, gone], rcond=None)[0]
    unexplained = np.abs(full[:, gone] - full[:, fit.kept] @ alias)
    return unexplained.max(axis=1) < ALIASED


def _families(means: MarginalMeans) -> list[Array]:
    """Rows of the table by level of `by`."""
    if not means.by:
        return [np.arange(len(means.table))]
    groups = means.table.groupby(list(means.by), sort=False, observed=True)
    return list(groups.indices.values())


def _contrast_table(
    means: MarginalMeans, weights: Mapping[str, Array], adjust: str
) -> pd.DataFrame:
    W = np.array(list(weights.values()))
    families = _families(means)
    L = np.vstack([W @ means.L[rows] for rows in families])
    estimable = np.concatenate(
        [
            ~(means.table["estimate"].isna().to_numpy()[rows] & (W != 0)).any(axis=1)
            for rows in families
        ]
    )
    estimate, covariance, df = contrast_moments(means.fit, L, means.ddf)
    error = np.sqrt(np.diag(covariance))
    statistic = estimate / error
    size, k = len(W), W.shape[1]
    p = np.concatenate(
        [
            adjusted_p(statistic[a : a + size], df[a : a + size], adjust, k)
            for a in range(0, len(L), size)
        ]
    )
    half = adjusted_quantile(means.level, df, adjust, size, k) * error
    table = pd.DataFrame(
        {
            "contrast": list(weights) * len(families),
            "estimate": estimate,
            "std_error": error,
            "statistic": statistic,
            "df": df,
            "p_value": p,
            "conf_low": estimate - half,
            "conf_high": estimate + half,
        }
    )
    table.loc[~estimable, table.columns[1:]] = np.nan
    levels = means.table[list(means.by)].iloc[[rows[0] for rows in families for _ in range(size)]]
    return pd.concat([levels.reset_index(drop=True), table], axis=1)
