"""What is wrong with a fit, named, with what to do about it.

Singular terms are named with the combinations of effects that have no variance; the best simpler model is fitted from
the cross-products at hand (`sparselmm.inference.simpler`), so that its change in AIC comes with the advice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm.diagnostics.collinearity import Conditioning, conditioning, kept_names
from sparselmm.estimates import dropped
from sparselmm.fit import Fit
from sparselmm.inference.simpler import Simpler, simpler_model
from sparselmm.rows import row_index, scaled_residuals
from sparselmm.varcorr import combination, describe_singularity

FEW_LEVELS = 5
SCALES = 1e3  # ratio of root mean squares of columns, as lme4's checkScaleX
CONDITION = 30.0  # Belsley's mark for strong dependence
INVOLVED = 0.3  # weight, relative to the largest, of a column that is named in a dependence
FAR = 5.0  # standard deviations from zero at which a column had better be centred
OUTLYING = 5.0  # residual standard deviations

NOT_NEEDED = "the data do not need it: without it the fit is the same"
LOWER_RANK = (
    "valid, with fewer dimensions than effects; the AIC of a simpler model says what they are worth"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at.

    Attributes
    ----------
    kind : str
        ``"convergence"``, ``"singular"``, ``"rank"``, ``"scale"``, ``"collinear"``, ``"levels"``
        or ``"outlier"``.
    where : str
        The term, column, factor or row.
    found, advice : str
    """

    kind: str
    where: str
    found: str
    advice: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings about a fit.

    Attributes
    ----------
    findings : tuple of Finding
    simpler : Simpler or None
        Of a singular fit: the best simpler model by AIC, be it better or worse.
    """

    findings: tuple[Finding, ...]
    simpler: Simpler | None

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def table(self) -> pd.DataFrame:
        """Columns ``kind, where, found, advice``."""
        rows = [(f.kind, f.where, f.found, f.advice) for f in self.findings]
        return pd.DataFrame(rows, columns=["kind", "where", "found", "advice"])

    def __str__(self) -> str:
        if self.ok:
            return "Nothing wrong found: converged, regular, well scaled."
        lines = []
        for f in self.findings:
            lines += [f"{f.kind}: {f.where}", f"    {f.found}", f"    -> {f.advice}"]
        if self.simpler is not None:
            lines.append(str(self.simpler))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False)


def diagnose(fit: Fit) -> Diagnosis:
    """Name what is wrong with a fit: convergence, singular terms, scales, dependence, outliers.

    Returns
    -------
    Diagnosis
        Prints as advice; for singular fits with a simpler formula and its change in AIC, which is
        computed from the cross-products of this fit.

    Examples
    --------
    >>> import warnings
    >>> import sparselmm as slm
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff2"))
    >>> print(fit.diagnose())
    singular: (1 | Batch)
        Intercept has variance zero
        -> the data do not need it: without it the fit is the same
    simpler model, already fitted:
        Yield ~ 1
        AIC 2.00 lower, deviance the same
    """
    singular = list(_singular(fit))
    findings = [*_convergence(fit), *singular, *_rank(fit), *_scales(fit), *_collinear(fit)]
    findings += [*_levels(fit), *_outliers(fit)]
    return Diagnosis(tuple(findings), simpler_model(fit) if singular else None)


def _convergence(fit: Fit) -> Iterator[Finding]:
    if not fit.optimum.converged:
        advice = "look at fit.optimum.log; go on with start=fit.theta, or rescale the predictors"
        yield Finding("convergence", "optimiser", fit.optimum.outcome.value, advice)


def _singular(fit: Fit) -> Iterator[Finding]:
    for phrase in describe_singularity(fit):
        where, _, found = phrase.partition(": ")
        yield Finding("singular", where, found, LOWER_RANK if "vary" in found else NOT_NEEDED)


def _rank(fit: Fit) -> Iterator[Finding]:
    for name in dropped(fit):
        advice = "drop the term or the rows that make it so; its coefficient is reported as missing"
        yield Finding("rank", name, "depends on earlier columns and was dropped", advice)


def _scales(fit: Fit) -> Iterator[Finding]:
    """Columns of X on very different scales."""
    if fit.p < 2:
        return
    at = conditioning(fit)
    middle = float(np.median(at.lengths))
    for name, length in zip(kept_names(fit), at.lengths, strict=True):
        ratio = max(length / middle, middle / length)
        if ratio > SCALES:
            power = -int(np.floor(np.log10(length / middle)))
            found = f"values of about {length:.1e} beside columns of about {middle:.1e}"
            advice = f"multiply it by 1e{power}: the fit is the same, its numbers are readable"
            yield Finding("scale", name, found, advice)


def _collinear(fit: Fit) -> Iterator[Finding]:
    """Combinations of columns of X that are nearly zero."""
    if fit.p < 2:
        return
    at = conditioning(fit)
    for k in np.flatnonzero(at.indices > CONDITION):
        yield _dependence(fit, at, int(k))


def _dependence(fit: Fit, at: Conditioning, k: int) -> Finding:
    names = kept_names(fit)
    weights = at.directions[:, k].copy()
    weights[np.abs(weights) < INVOLVED * np.abs(weights).max()] = 0.0
    involved = np.flatnonzero(weights)
    combined = weights / at.lengths
    text = combination(names, combined / np.abs(combined).max())
    found = f"{text} is nearly zero (condition index {at.indices[k]:.0f})"
    parts = [part for i in involved for part in names[i].split(":") if part != "Intercept"]
    distant = [name for name in dict.fromkeys(parts) if name in _far_from_zero(fit)]
    if distant:
        advice = f"centre {' and '.join(distant)}: far from zero, it varies little around its mean"
    else:
        others = [names[i] for i in involved if names[i] != "Intercept"]
        advice = f"drop or combine {' or '.join(others)}: their coefficients cannot be told apart"
    return Finding("collinear", " and ".join(names[i] for i in involved), found, advice)


def _far_from_zero(fit: Fit) -> set[str]:
    """Columns of X that are many standard deviations from zero."""
    X = fit.design.X[:, fit.kept]
    mean, sd = np.abs(X.mean(axis=0)), X.std(axis=0)
    far = (sd > 0.0) & (mean > FAR * sd)
    return {name for name, is_far in zip(kept_names(fit), far, strict=True) if is_far}


def _levels(fit: Fit) -> Iterator[Finding]:
    for name, (levels, _) in zip(fit.spec.factor_names, fit.gram.shapes, strict=True):
        if levels < FEW_LEVELS:
            found = f"has {levels} levels; its variance is hardly determined"
            yield Finding(
                "levels", name, found, f"use {name} as a fixed effect, or report its interval"
            )


def _outliers(fit: Fit) -> Iterator[Finding]:
    scaled = scaled_residuals(fit)
    far = np.flatnonzero(np.abs(scaled) > OUTLYING)
    if len(far):
        far = far[np.argsort(-np.abs(scaled[far]))]
        worst = row_index(fit)[far[:3]]
        largest = f"{scaled[far[0]]:+.1f}"
        found = f"{len(far)} residuals beyond {OUTLYING:g} sigma, the largest {largest}"
        advice = "check these rows; fit.cooks_distance() says what they change"
        if len(far) == 1:
            found = f"1 residual beyond {OUTLYING:g} sigma: {largest}"
            advice = "check this row; fit.cooks_distance() says what it changes"
        yield Finding("outlier", ", ".join(f"row {row}" for row in worst), found, advice)
