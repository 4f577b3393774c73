"""Likelihood-ratio comparison of nested models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array, RandomTerm
from sparselmm.basis import triangular_factor
from sparselmm.errors import ConvergenceWarning, InferenceError, warn
from sparselmm.fit import Fit
from sparselmm.fit import fit as refit
from sparselmm.inference.distributions import chi2_tail

SPAN = 1e-7  # share of a column's length that may lie outside a span


@dataclass(frozen=True)
class Comparison:
    """Likelihood-ratio table of nested models.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per model, fewest parameters first, named ``m1``, ``m2``, … in the order of the call; columns
        ``npar, aic, bic, loglik, deviance, chisq, df, p``. The last three compare a model with the row above.
    formulas : dict of str to str
    criterion : str
        ``"ML"`` or ``"REML"``.
    notes : tuple of str
    """

    table: pd.DataFrame
    formulas: dict[str, str]
    criterion: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        names = [f"{name}: {formula}" for name, formula in self.formulas.items()]
        text = self.table.to_string(
            float_format=lambda v: f"{v:.4f}", formatters={"p": _short}, na_rep=""
        )
        notes = [f"Note: {note}" for note in self.notes]
        return "\n".join([f"Models compared by {self.criterion}", *names, "", text, *notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        names = "".join(f"<p>{name}: {formula}</p>" for name, formula in self.formulas.items())
        notes = "".join(f"<p>{note}</p>" for note in self.notes)
        return names + self.table.to_html(na_rep="") + notes


def _short(p: float) -> str:
    return "" if np.isnan(p) else f"{p:.4g}"


def compare(*models: Any, refit: bool = True) -> Comparison:
    """Compare nested models by likelihood ratio.

    Parameters
    ----------
    *models : Results
        Two or more fits on the same rows.
    refit : bool
        Whether REML fits may be refitted by maximum likelihood, which is necessary where fixed parts differ (and
        where REML and ML fits are mixed); the result says so.

    Returns
    -------
    Comparison

    Raises
    ------
    InferenceError
        For models on different rows, responses, weights or offsets, and for REML fits with different fixed parts
        when `refit` is False.

    Warns
    -----
    ConvergenceWarning
        When a model did not converge; the notes of the result say it too.

    Notes
    -----
    Each model is compared with the next smaller one, by the chi-square distribution with the difference in
    parameters. Where a variance is zero under the smaller model that p is too large (Stram & Lee 1994): see
    ``ranova``. A model that the row above is not nested in gets no test.

    Examples
    --------
    >>> import sparselmm as slm
    >>> data = slm.load_dataset("sleepstudy")
    >>> small = slm.lmm("Reaction ~ 1 + (Days | Subject)", data)
    >>> large = slm.lmm("Reaction ~ Days + (Days | Subject)", data)
    >>> print(slm.compare(small, large))
    Models compared by ML
    m1: Reaction ~ 1 + (Days | Subject)
    m2: Reaction ~ Days + (Days | Subject)
    <BLANKLINE>
        npar       aic       bic    loglik  deviance   chisq  df         p
    m1     5 1785.4759 1801.4407 -887.7379 1775.4759           0
    m2     6 1763.9393 1783.0971 -875.9697 1751.9393 23.5365   1 1.226e-06
    Note: REML fits were refitted by ML, since the fixed parts differ
    """
    fits = _fits(models)
    for other in fits[1:]:
        _check_rows(fits[0], other)
    fits, notes = _same_criterion(fits, refit)
    stopped = _stopped(fits)
    if stopped:
        warn(stopped, ConvergenceWarning)
        notes.append(stopped)
    order = sorted(range(len(fits)), key=lambda i: _parameters(fits[i]))
    rows = [_row(fits[i]) for i in order]
    for (first, low), (second, high) in pairwise(list(zip(order, rows, strict=True))):
        _add_test(fits[first], fits[second], low, high, f"m{first + 1}", f"m{second + 1}", notes)
    table = pd.DataFrame(rows, index=[f"m{i + 1}" for i in order])
    formulas = {f"m{i + 1}": fits[i].spec.formula for i in order}
    return Comparison(
        table, formulas, "REML" if fits[0].reml else "ML", tuple(dict.fromkeys(notes))
    )


def _fits(models: Sequence[Any]) -> list[Fit]:
    if len(models) < 2:
        raise InferenceError(f"Found {len(models)} model(s); expected two or more fits to compare.")
    fits = []
    for model in models:
        found = model if isinstance(model, Fit) else getattr(model, "fit", None)
        if not isinstance(found, Fit):
            raise InferenceError(
                f"Found {type(model).__name__}; expected results of lmm. Fit the model first."
            )
        fits.append(found)
    return fits


def _stopped(fits: Sequence[Fit]) -> str:
    """What to say of fits that did not converge; empty when all did."""
    found = [
        f"m{i + 1} is {fit.optimum.outcome.value}"
        for i, fit in enumerate(fits)
        if not fit.optimum.converged
    ]
    if not found:
        return ""
    return (
        f"{'; '.join(found)}. Expected converged fits: likelihood ratios of others mean little. Fit again with more "
        "evaluations (options) or other start values."
    )


def _parameters(fit: Fit) -> int:
    return fit.p + fit.n_theta + 1


def _row(fit: Fit) -> dict:
    npar = _parameters(fit)
    return {
        "npar": npar,
        "aic": fit.deviance + 2.0 * npar,
        "bic": fit.deviance + np.log(fit.n) * npar,
        "loglik": -0.5 * fit.deviance,
        "deviance": fit.deviance,
        "chisq": np.nan,
        "df": 0,
        "p": np.nan,
    }


def _check_rows(a: Fit, b: Fit) -> None:
    """Refuse models that were not fitted to the same data."""
    if a.n != b.n:
        dropped = " and ".join(f"{f.n} rows ({f.spec.n_dropped_missing} dropped)" for f in (a, b))
        raise InferenceError(
            f"Found models on different rows: {dropped}; expected the same. Remove rows with missing values first."
        )
    same_index = a.spec.index is None or b.spec.index is None or a.spec.index.equals(b.spec.index)
    if not same_index or not np.array_equal(a.design.y, b.design.y):
        raise InferenceError(
            f"Found models of different rows or responses ({a.spec.response} and {b.spec.response}); expected the same "
            "response on the same rows in the same order."
        )
    for name in ("weights", "offset"):
        first, second = getattr(a.design, name), getattr(b.design, name)
        if (first is None) != (second is None) or (
            first is not None and not np.array_equal(first, second)
        ):
            raise InferenceError(
                f"Found models with different {name}; expected the same. Fit both with them."
            )


def _same_criterion(fits: list[Fit], may_refit: bool) -> tuple[list[Fit], list[str]]:
    """All fits by one criterion, and what was done for it."""
    kinds = {fit.reml for fit in fits}
    if kinds == {False}:
        return fits, []
    mixed = len(kinds) > 1
    if not mixed and all(_same_fixed(fits[0], other) for other in fits[1:]):
        return fits, ["REML fits with the same fixed part: compared by REML"]
    why = "ML and REML fits were mixed" if mixed else "the fixed parts differ"
    if not may_refit:
        raise InferenceError(
            f"Found REML fits that cannot be compared ({why}); expected ML fits. Use reml=False, or refit=True."
        )
    by_ml = [_by_ml(fit) if fit.reml else fit for fit in fits]
    return by_ml, [f"REML fits were refitted by ML, since {why}"]


def _by_ml(fit: Fit) -> Fit:
    return refit(fit.prepared, reml=False, options=fit.options, start=fit.theta)


def _same_fixed(a: Fit, b: Fit) -> bool:
    """Whether the fixed parts have the same columns (the REML value depends on more than their span)."""
    if a.p != b.p:
        return False
    first, second = (f.design.X[:, f.kept] for f in (a, b))
    return bool(np.allclose(first, second, rtol=1e-10, atol=0.0))


def _add_test(
    small: Fit, large: Fit, low: dict, high: dict, name: str, other: str, notes: list[str]
) -> None:
    """Fill in the test of two neighbouring rows, or say why there is none."""
    df = high["npar"] - low["npar"]
    high["df"] = df
    reason = not_nested(small, large)
    if df == 0 or reason:
        notes.append(f"{name} is not nested in {other} ({reason}): no test" if reason else
                     f"{name} and {other} have as many parameters: no test")  # fmt: skip
        return
    chisq = low["deviance"] - high["deviance"]
    if chisq < -1e-6 * max(1.0, 1e-6 * abs(high["deviance"])):
        notes.append(
            f"{other} has a higher deviance than {name}, nested in it: it is not at its optimum"
        )
    high["chisq"] = max(chisq, 0.0)
    high["p"] = chi2_tail(high["chisq"], df)
    if _variances(small) < _variances(large):
        notes.append(
            f"variances of {other} are zero in {name}: p by chi-square is too large, ranova() has the mixture"
        )


def _variances(fit: Fit) -> int:
    """Number of variances of the random effects: what a smaller model holds at zero, on the boundary."""
    return int(fit.model.pivots.sum())


def not_nested(small: Fit, large: Fit) -> str:
    """Why a model is not nested in another; "" where it is."""
    X_small, X_large = (f.design.X[:, f.kept] for f in (small, large))
    if not in_span(X_small, X_large):
        return "its fixed part is not within the other's"
    for term in small.spec.terms:
        if not any(_term_within(small, term, large, other) for other in large.spec.terms):
            return f"({term.label}) is not within a term of the other"
    return ""


def in_span(small: Array, large: Array) -> bool:
    """Whether the columns of one tall matrix lie in the span of another's; one pass over the rows."""
    if not small.shape[1]:
        return True
    if not large.shape[1]:
        return False
    R = triangular_factor([large, small])
    width = large.shape[1]
    outside = np.linalg.norm(R[width:, width:], axis=0)
    return bool((outside <= SPAN * np.linalg.norm(R[:, width:], axis=0)).all())


def _term_within(small: Fit, term: RandomTerm, large: Fit, other: RandomTerm) -> bool:
    """Whether every covariance of one term is among those of another."""
    first, second = small.design.factors[term.factor], large.design.factors[other.factor]
    if not same_partition(first.codes, first.n_levels, second.codes, second.n_levels):
        return False
    Q = first.Q[:, term.start : term.stop]
    R = second.Q[:, other.start : other.stop]
    if other.template == "unstructured":
        return in_span(Q, R)
    # uncorrelated effects: column by column, and unstructured ones only when there is one
    if term.template == "unstructured" and Q.shape[1] > 1:
        return False
    if other.template == "scalar":
        return Q.shape == R.shape and in_span(Q, R)
    return all(any(in_span(q[:, None], r[:, None]) for r in R.T) for q in Q.T)


def same_partition(a: Array, n_a: int, b: Array, n_b: int) -> bool:
    """Whether two grouping factors have the same groups, whatever their order."""
    if n_a != n_b:
        return False
    if np.array_equal(a, b):
        return True
    image = np.full(n_a, -1, dtype=b.dtype)
    image[a] = b
    return bool(np.array_equal(image[a], b) and len(np.unique(image)) == n_b)
