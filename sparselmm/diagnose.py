"""What is wrong with a fit, named, with what to do about it.

Singular terms are named with the combinations of effects that have no variance, and the model without them is
fitted from the cross-products at hand, so that its change in AIC comes with the advice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.collinearity import Conditioning, conditioning, kept_names
from sparselmm.errors import FormulaError
from sparselmm.estimates import dropped
from sparselmm.fit import Fit
from sparselmm.formula import parse_formula
from sparselmm.inference.reduce import Reduced, linear_deviance, reduce_fit
from sparselmm.rows import row_index, scaled_residuals
from sparselmm.threads import limited_threads
from sparselmm.varcorr import combination, describe_singularity, null_combinations

FEW_LEVELS = 5
SCALES = 1e3  # ratio of root mean squares of columns, as lme4's checkScaleX
CONDITION = 30.0  # Belsley's mark for strong dependence
INVOLVED = 0.3  # weight, relative to the largest, of a column that is named in a dependence
FAR = 5.0  # standard deviations from zero at which a column had better be centred
OUTLYING = 5.0  # residual standard deviations


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
class Simpler:
    """The model without the random effects that have no variance.

    Attributes
    ----------
    formula : str
    left_out : tuple of str
    aic_change : float
        AIC of the simpler model minus that of the fit: negative when the simpler one is better.
    deviance_change : float
    """

    formula: str
    left_out: tuple[str, ...]
    aic_change: float
    deviance_change: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings about a fit.

    Attributes
    ----------
    findings : tuple of Finding
    simpler : Simpler or None
        Offered for a singular fit.
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
            aic, deviance = self.simpler.aic_change, self.simpler.deviance_change
            lines += [
                "simpler model, already fitted:",
                f"    {self.simpler.formula}",
                f"    AIC {aic:+.2f}, deviance {deviance:+.2g}",
            ]
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
        -> the data do not need it; a simpler term says the same
    simpler model, already fitted:
        Yield ~ 1
        AIC -2.00, deviance +0
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
        yield Finding(
            "singular", where, found, "the data do not need it; a simpler term says the same"
        )


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
        found = f"{len(far)} residuals beyond {OUTLYING:g} sigma, the largest {scaled[far[0]]:+.1f}"
        advice = "check these rows; fit.cooks_distance() says what they change"
        yield Finding("outlier", ", ".join(f"row {row}" for row in worst), found, advice)


def simpler_model(fit: Fit) -> Simpler | None:
    """The model without random effects of no variance, fitted from the same cross-products.

    Columns go term by term of the formula left of the bar, the one that costs least first; the
    intercept stays as long as there are slopes, unless its own variance is zero.
    """
    gone: list[tuple[int, str]] = []
    deviance, n_theta, null = fit.deviance, fit.n_theta, _null_terms(fit)
    with limited_threads(fit.prepared.threads(fit.options)):
        while null:
            tried = [(_try(fit, [*gone, one]), one) for one in null]
            (deviance, n_theta, null), best = min(tried, key=lambda t: t[0][0] + 2.0 * t[0][1])
            gone.append(best)
    if not gone:
        return None
    change = deviance - fit.deviance
    change = 0.0 if abs(change) < 1e-7 * max(1.0, abs(deviance)) else change
    left_out = tuple(f"{name} in ({fit.spec.terms[t].label})" for t, name in gone)
    aic = change + 2.0 * (n_theta - fit.n_theta)
    return Simpler(_formula(fit, gone), left_out, float(aic), float(change))


def _pieces(fit: Fit, term: int) -> dict[str, tuple[int, ...]]:
    """Terms of the formula left of a bar and their columns."""
    return dict(fit.spec.encoders[term].terms)


def _null_terms(fit: Fit) -> list[tuple[int, str]]:
    T = [fit.model.block(fit.solution.T, part) for part in fit.model.parts]
    R = [fit.gram.basis.Rq[p.factor][p.columns, p.columns] for p in fit.model.parts]
    columns = [list(range(len(term.columns))) for term in fit.spec.terms]
    return [c for t in range(len(T)) for c in _candidates(fit, t, columns[t], T[t], R[t])]


def _candidates(
    fit: Fit, term: int, columns: Sequence[int], T: Array, R: Array
) -> list[tuple[int, str]]:
    """Formula terms that take part in a combination without variance."""
    null = null_combinations(T, R)
    if not len(null):
        return []
    used = {columns[int(c)] for c in np.flatnonzero(np.abs(null).max(axis=0) > 0.0)}
    alone = {columns[int(np.argmax(np.abs(v)))] for v in null if np.count_nonzero(v) == 1}
    pieces = {n: set(own) for n, own in _pieces(fit, term).items() if set(own) & set(columns)}
    hit = [name for name, own in pieces.items() if own & used]
    if len(pieces) > 1:
        hit = [name for name in hit if name != "1" or pieces["1"] & alone] or hit
    return [(term, name) for name in hit]


def _try(fit: Fit, gone: Sequence[tuple[int, str]]) -> tuple[float, int, list[tuple[int, str]]]:
    """Deviance, covariance parameters and what is still without variance."""
    without = [(t, c) for t, name in gone for c in _pieces(fit, t)[name]]
    reduced: Reduced = reduce_fit(fit, without)
    if reduced.problem is None:
        return linear_deviance(reduced.gram, reml=fit.reml), 0, []
    solution = reduced.minimise().solution
    kept = {
        t: [c for c in range(len(term.columns)) if (t, c) not in without]
        for t, term in enumerate(fit.spec.terms)
    }
    staying = [t for t, columns in kept.items() if columns]
    null = []
    for t, part in zip(staying, reduced.problem.model.parts, strict=True):
        T = reduced.problem.model.block(solution.T, part)
        R = reduced.gram.basis.Rq[part.factor][part.columns, part.columns]
        null += _candidates(fit, t, kept[t], T, R)
    return solution.deviance, reduced.n_theta, null


def _formula(fit: Fit, gone: Sequence[tuple[int, str]]) -> str:
    """The formula that is left, or only its random part for a model made from arrays."""
    parts = []
    for t, term in enumerate(fit.spec.terms):
        left = [name for name in _pieces(fit, t) if (t, name) not in gone]
        if left:
            left = left if left[0] == "1" else ["0", *left]
            left = left[1:] if left[0] == "1" and len(left) > 1 else left
            parts.append(f"({' + '.join(left)} | {term.grouping})")
    try:
        parsed = parse_formula(fit.spec.formula)
    except FormulaError:
        return " + ".join(parts) or "no random effects"
    offsets = [f"offset({text})" for text in parsed.offsets]
    return f"{parsed.response} ~ {' + '.join([parsed.fixed.text, *parts, *offsets])}"
