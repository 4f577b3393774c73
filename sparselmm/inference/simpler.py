"""Simpler models of a singular fit: effects left out, or their correlations, and the best of those by AIC.

All are fitted from the cross-products at hand. A term with a combination of effects that does not vary can lose one of
the effects that take part, or all its correlations ((x || g)); what is tried next starts from the best so far, until
nothing is singular and nothing lowers the AIC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import FormulaError
from sparselmm.fit import Fit
from sparselmm.formula import parse_formula
from sparselmm.inference.reduce import linear_deviance, reduce_fit
from sparselmm.threads import limited_threads
from sparselmm.varcorr import null_combinations

ROUNDING = 1e-7  # of the deviance: a change that is none


@dataclass(frozen=True, slots=True)
class Simpler:
    """The simpler model of lowest AIC.

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

    def __str__(self) -> str:
        better = self.aic_change < 0.0
        lead = (
            "simpler model, already fitted:"
            if better
            else "the best simpler model tried is no better:"
        )
        advice = "" if better else "; nothing speaks for it"
        aic, deviance = _change(self.aic_change), _change(self.deviance_change)
        return f"{lead}\n    {self.formula}\n    AIC {aic}, deviance {deviance}{advice}"


def _change(value: float) -> str:
    if value == 0.0:
        return "the same"
    size = f"{abs(value):.2f}" if abs(value) >= 0.005 else "less than 0.01"
    return f"{size} {'lower' if value < 0.0 else 'higher'}"


@dataclass(frozen=True, slots=True)
class _Smaller:
    """What is left out of a fit, and what remains.

    Attributes
    ----------
    gone : tuple of (int, str)
        Term, and which of its formula's terms.
    split : tuple of int
        Terms without correlations.
    deviance : float
    n_theta : int
    null : dict of int to set of int
        Per term that is singular, the columns in combinations that do not vary.
    """

    gone: tuple[tuple[int, str], ...]
    split: tuple[int, ...]
    deviance: float
    n_theta: int
    null: dict[int, set[int]]

    @property
    def aic(self) -> float:
        """But for what all of them share."""
        return self.deviance + 2.0 * self.n_theta


def simpler_model(fit: Fit) -> Simpler | None:
    """The best model by AIC among those without what has no variance; None for a regular fit."""
    T = [fit.model.block(fit.solution.T, part) for part in fit.model.parts]
    R = [fit.gram.basis.Rq[part.factor][part.columns, part.columns] for part in fit.model.parts]
    columns = [list(range(len(term.columns))) for term in fit.spec.terms]
    start = _Smaller((), (), fit.deviance, fit.n_theta, _null(range(len(T)), columns, T, R))
    here, tried = start, list[_Smaller]()
    with limited_threads(fit.prepared.threads(fit.options)):
        while start.null:
            steps = [_fitted(fit, gone, split) for gone, split in _steps(fit, here, [*start.null])]
            best = min(steps, key=lambda step: step.aic, default=here)
            tried += steps
            if not (here.null and steps) and best.aic >= here.aic:
                break
            here = best
    regular = [step for step in tried if not step.null]
    if not tried:
        return None
    return _describe(fit, min(regular or tried, key=lambda step: step.aic))


def _describe(fit: Fit, best: _Smaller) -> Simpler:
    change = best.deviance - fit.deviance
    change = 0.0 if abs(change) < ROUNDING * max(1.0, abs(best.deviance)) else change
    labels = [term.label for term in fit.spec.terms]
    left_out = [f"{name} in ({labels[t]})" for t, name in best.gone]
    left_out += [f"correlations in ({labels[t]})" for t in best.split]
    aic = change + 2.0 * (best.n_theta - fit.n_theta)
    return Simpler(_formula(fit, best), tuple(left_out), float(aic), float(change))


def _pieces(fit: Fit, term: int, gone: Sequence[tuple[int, str]] = ()) -> dict[str, set[int]]:
    """Terms of the formula left of a bar, and their columns."""
    pieces = fit.spec.encoders[term].terms
    return {name: set(own) for name, own in pieces.items() if (term, name) not in gone}


def _null(
    terms: Sequence[int], columns: Sequence[Sequence[int]], T: Sequence[Array], R: Sequence[Array]
) -> dict[int, set[int]]:
    """Columns of every term in combinations without variance."""
    found = {}
    for term, own, t, r in zip(terms, columns, T, R, strict=True):
        weights = np.abs(null_combinations(t, r))
        if len(weights):
            found[term] = {own[int(c)] for c in np.flatnonzero(weights.max(axis=0))}
    return found


def _steps(
    fit: Fit, here: _Smaller, terms: Sequence[int]
) -> Iterator[tuple[tuple[tuple[int, str], ...], tuple[int, ...]]]:
    """What may be left out next: (gone, split)."""
    for term in [*here.null] or terms:
        pieces = _pieces(fit, term, here.gone)
        columns = here.null.get(term, set().union(*pieces.values()))
        free = [name for name in pieces if not _needed(fit, term, name, list(pieces))]
        hit = [name for name in free if pieces[name] & columns] or free
        for name in hit:
            yield (*here.gone, (term, name)), here.split
        plain = fit.spec.terms[term].template == "unstructured" and _numeric(fit, term, pieces)
        if plain and len(pieces) > 1 and term not in here.split:
            yield here.gone, (*here.split, term)


def _numeric(fit: Fit, term: int, pieces: Sequence[str] | dict[str, set[int]]) -> bool:
    """Whether every formula term is one column, of numbers."""
    categories = getattr(fit.spec.encoders[term], "categories", {})
    known = _pieces(fit, term)
    return not categories and all(len(known[name]) == 1 for name in pieces)


def _needed(fit: Fit, term: int, name: str, pieces: Sequence[str]) -> bool:
    """Whether a formula term is contained in another one, whose columns would change without it."""
    others = [other for other in pieces if other != name]
    if name == "1":
        return bool(others) and not _numeric(fit, term, others)
    own = set(name.split(":"))
    return any(own < set(other.split(":")) for other in others)


def _fitted(fit: Fit, gone: Sequence[tuple[int, str]], split: Sequence[int]) -> _Smaller:
    without = {(t, c) for t, name in gone for c in _pieces(fit, t)[name]}
    kept = {
        t: [c for c in range(len(term.columns)) if (t, c) not in without]
        for t, term in enumerate(fit.spec.terms)
    }
    split = tuple(t for t in split if len(kept[t]) > 1)
    reduced = reduce_fit(fit, sorted(without), uncorrelated=split)
    if reduced.problem is None:
        return _Smaller(tuple(gone), split, linear_deviance(reduced.gram, reml=fit.reml), 0, {})
    solution, model = reduced.minimise().solution, reduced.problem.model
    staying = [t for t, columns in kept.items() if columns]
    T = [model.block(solution.T, part) for part in model.parts]
    R = [reduced.gram.basis.Rq[part.factor][part.columns, part.columns] for part in model.parts]
    null = _null(staying, [kept[t] for t in staying], T, R)
    return _Smaller(tuple(gone), split, solution.deviance, reduced.n_theta, null)


def _formula(fit: Fit, best: _Smaller) -> str:
    """The formula that is left, or only its random part for a model made from arrays."""
    parts = []
    for t, term in enumerate(fit.spec.terms):
        left = list(_pieces(fit, t, best.gone))
        if left:
            left = left if left[0] == "1" else ["0", *left]
            left = left[1:] if left[0] == "1" and len(left) > 1 else left
            bar = "||" if t in best.split else "|"
            parts.append(f"({' + '.join(left)} {bar} {term.grouping})")
    try:
        parsed = parse_formula(fit.spec.formula)
    except FormulaError:
        return " + ".join(parts) or "no random effects"
    offsets = [f"offset({text})" for text in parsed.offsets]
    return f"{parsed.response} ~ {' + '.join([parsed.fixed.text, *parts, *offsets])}"
