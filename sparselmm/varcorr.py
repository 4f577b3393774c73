"""Variances, standard deviations and correlations of the random effects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._types import Array, RandomTerm
from sparselmm.fit import Fit

Row = tuple[str, str | None, str | None, float, float]


@dataclass(frozen=True, slots=True)
class TermCovariance:
    """The covariance matrix of the random effects of one term.

    Attributes
    ----------
    term : RandomTerm
    group : str
        Name of the grouping factor, ``"g.1"`` for the second term on ``g``, as in lme4.
    covariance : ndarray, shape (s, s)
        sigma² T T'.
    """

    term: RandomTerm
    group: str
    covariance: Array

    @property
    def sd(self) -> Array:
        """Standard deviations, shape (s,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def correlation(self) -> Array:
        """Correlations, shape (s, s); NaN where a standard deviation is zero."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.clip(self.covariance / np.outer(self.sd, self.sd), -1.0, 1.0)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of correlated effects, first one slowest; none for uncorrelated templates."""
        s = len(self.covariance)
        if self.term.template != "unstructured":
            return []
        return [(a, b) for a in range(s) for b in range(a + 1, s)]


def group_names(terms: Sequence[RandomTerm]) -> list[str]:
    """Names of the grouping factors, one per term, repeated ones numbered as in lme4.

    Examples
    --------
    >>> from sparselmm._types import RandomTerm
    >>> terms = [RandomTerm("1 | g", "g", ("Intercept",)), RandomTerm("0 + x | g", "g", ("x",))]
    >>> group_names(terms)
    ['g', 'g.1']
    """
    seen: Counter[str] = Counter()
    out = []
    for term in terms:
        count = seen[term.grouping]
        out.append(f"{term.grouping}.{count}" if count else term.grouping)
        seen[term.grouping] += 1
    return out


def term_covariances(fit: Fit) -> list[TermCovariance]:
    """Covariance matrices of all terms, in lme4's order."""
    terms = fit.spec.terms
    out = []
    for term, part, group in zip(terms, fit.model.parts, group_names(terms), strict=True):
        T = fit.model.block(fit.T, part)
        out.append(TermCovariance(term, group, fit.sigma2 * T @ T.T))
    return out


def varcorr(fit: Fit) -> pd.DataFrame:
    """Variances and covariances of the random effects, one row each; the residual row is last.

    Returns
    -------
    pandas.DataFrame
        Columns ``grp, var1, var2, vcov, sdcor`` as in ``as.data.frame(VarCorr(m))`` of lme4. Where
        ``var2`` is missing, ``vcov`` is a variance and ``sdcor`` a standard deviation, else a
        covariance and a correlation.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.varcorr.fillna("").round(2)
            grp       var1  var2    vcov  sdcor
    0   Subject  Intercept        612.09  24.74
    1   Subject       Days         35.07   5.92
    2   Subject  Intercept  Days    9.60   0.07
    3  Residual                   654.94  25.59
    """
    rows: list[Row] = [row for term in term_covariances(fit) for row in _rows(term)]
    rows.append(("Residual", None, None, fit.sigma2, np.sqrt(fit.sigma2)))
    return pd.DataFrame(rows, columns=["grp", "var1", "var2", "vcov", "sdcor"])


def _rows(term: TermCovariance) -> Iterator[Row]:
    columns, sd, cov, cor = term.term.columns, term.sd, term.covariance, term.correlation
    for a, name in enumerate(columns):
        yield term.group, name, None, cov[a, a], sd[a]
    for a, b in term.pairs:
        yield term.group, columns[a], columns[b], cov[a, b], cor[a, b]


def parameter_names(fit: Fit) -> list[str]:
    """Names of standard deviations and correlations in the rows' order, ``"sigma"`` last.

    ``"sd_x|g"`` and ``"cor_x.z|g"``, as in `conf_int`.
    """
    out = []
    for term in term_covariances(fit):
        columns = term.term.columns
        out += [f"sd_{name}|{term.group}" for name in columns]
        out += [f"cor_{columns[a]}.{columns[b]}|{term.group}" for a, b in term.pairs]
    return [*out, "sigma"]


def describe_singularity(fit: Fit) -> list[str]:
    """Per singular term a phrase that names the combinations of effects without variance."""
    found = []
    for term, part in zip(fit.spec.terms, fit.model.parts, strict=True):
        internal = fit.model.block(fit.solution.T, part)
        R = fit.gram.basis.Rq[part.factor][part.columns, part.columns]
        null = null_combinations(internal, R)
        if len(null):
            found.append(f"({term.label}): {_phrase(term.columns, null)}")
    return found


def null_combinations(internal: Array, R: Array, tolerance: float = 1e-4) -> Array:
    """Combinations v of a term's effects with v'Sigma v = 0, as rows, shape (d, s).

    Parameters
    ----------
    internal : ndarray, shape (s, s)
        The factor T~ = R T in scaled coordinates, where T~'w = 0 gives v = R'w.
    R : ndarray, shape (s, s)
    """
    left, values, _ = np.linalg.svd(internal)
    null = left[:, values < tolerance].T @ R
    return reduced_echelon(null)


def reduced_echelon(rows: Array) -> Array:
    """A basis of the same row space with as many zeros as pivots allow, largest entry 1."""
    rows = rows / np.maximum(np.abs(rows).max(initial=0.0), 1e-300)
    free = list(range(rows.shape[1]))
    for i in range(len(rows)):
        pivot = max(free, key=lambda a: abs(rows[i, a]))
        free.remove(pivot)
        rows[i] /= rows[i, pivot]
        others = np.arange(len(rows)) != i
        rows[others] -= np.outer(rows[others, pivot], rows[i])
    rows[np.abs(rows) < 1e-8] = 0.0
    return rows


def _phrase(columns: Sequence[str], null: Array) -> str:
    single = [columns[int(np.argmax(np.abs(v)))] for v in null if np.count_nonzero(v) == 1]
    mixed = [combination(columns, v) for v in null if np.count_nonzero(v) > 1]
    parts = []
    if single:
        parts.append(f"{' and '.join(single)} ha{'s' if len(single) == 1 else 've'} variance zero")
    if mixed:
        parts.append(f"{' and '.join(mixed)} do{'es' if len(mixed) == 1 else ''} not vary")
    return "; ".join(parts)


def combination(columns: Sequence[str], v: Array) -> str:
    """A linear combination in words of the formula.

    Examples
    --------
    >>> combination(["Intercept", "Days"], np.array([-0.25, 1.0]))
    'Days - 0.25 Intercept'
    """
    text = ""
    for a in np.argsort(-np.abs(v), kind="stable"):
        if v[a] != 0.0:
            size = "" if np.isclose(abs(v[a]), 1.0) else f"{abs(v[a]):.3g} "
            sign = "-" if v[a] < 0 else "+"
            text += f" {sign} {size}{columns[a]}"
    return text.removeprefix(" + ").replace(" - ", "-", text.startswith(" - "))
