"""Simpler models of a singular fit: effects left out, or their correlations, and the best of those by AIC.

All are fitted from the cross-products at hand. A term with a combination of effects that does not vary can lose one of
the effects that take part, or all its correlations ((x || g)), and the levels of a factor can become one intercept
((0 + f | g) to (1 | g)); what is tried next starts from the best so far, until nothing is singular and nothing lowers
the AIC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import FormulaError
from sparselmm.fit import Fit
from sparselmm.formula import parse_formula
from sparselmm.inference.reduce import Kept, kept_columns, linear_deviance, reduce_fit
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
class _Cut:
    """What a smaller model does without.

    Attributes
    ----------
    gone : tuple of (int, str)
        Term, and which of its formula's terms.
    split : tuple of int
        Terms without correlations.
    merged : tuple of (int, str)
        Term, and its formula's term whose levels are one intercept.
    """

    gone: tuple[tuple[int, str], ...] = ()
    split: tuple[int, ...] = ()
    merged: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Smaller:
    """What is left out of a fit, and what remains.

    Attributes
    ----------
    cut : _Cut
    deviance : float
    n_theta : int
    null : dict of int to set of int
        Per term that is singular, the columns in combinations that do not vary.
    """

    cut: _Cut
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
    start = _Smaller(_Cut(), fit.deviance, fit.n_theta, _null(range(len(T)), columns, T, R))
    here, tried = start, list[_Smaller]()
    with limited_threads(fit.prepared.threads(fit.options)):
        while start.null:
            steps = [_fitted(fit, cut) for cut in _steps(fit, here, [*start.null])]
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
    left_out = [f"{name} in ({labels[t]})" for t, name in best.cut.gone]
    left_out += [f"correlations in ({labels[t]})" for t in best.cut.split]
    left_out += [f"differences by {name} in ({labels[t]})" for t, name in best.cut.merged]
    aic = change + 2.0 * (best.n_theta - fit.n_theta)
    return Simpler(_formula(fit, best), tuple(left_out), float(aic), float(change))


def _pieces(fit: Fit, term: int, cut: _Cut) -> dict[str, set[int]]:
    """Terms of the formula that are left of a bar, and their columns; merged ones are the term "1"."""
    pieces = {name: set(own) for name, own in fit.spec.encoders[term].terms.items()}
    for t, name in cut.merged:
        if t == term:
            pieces = {"1": pieces.pop(name), **pieces}
    return {name: own for name, own in pieces.items() if (term, name) not in cut.gone}


def _null(
    terms: Sequence[int], columns: Sequence[Kept], T: Sequence[Array], R: Sequence[Array]
) -> dict[int, set[int]]:
    """Columns of every term in combinations without variance."""
    found = {}
    for term, own, t, r in zip(terms, columns, T, R, strict=True):
        weights = np.abs(null_combinations(t, r))
        if len(weights):
            hit = [own[int(c)] for c in np.flatnonzero(weights.max(axis=0))]
            found[term] = {i for c in hit for i in (c if isinstance(c, tuple) else (c,))}
    return found


def _steps(fit: Fit, here: _Smaller, terms: Sequence[int]) -> Iterator[_Cut]:
    """What may be left out next."""
    cut = here.cut
    for term in [*here.null] or terms:
        pieces = _pieces(fit, term, cut)
        columns = here.null.get(term, set().union(*pieces.values()))
        free = [name for name in pieces if not _needed(fit, term, name, list(pieces))]
        hit = [name for name in free if pieces[name] & columns] or free
        for name in hit:
            yield replace(cut, gone=(*cut.gone, (term, name)))
            if "1" not in pieces and _indicators(fit, term, pieces[name]):
                yield replace(cut, merged=(*cut.merged, (term, name)))
        plain = fit.spec.terms[term].template == "unstructured" and _numeric(fit, term, pieces)
        if plain and len(pieces) > 1 and term not in cut.split:
            yield replace(cut, split=(*cut.split, term))


def _indicators(fit: Fit, term: int, columns: set[int]) -> bool:
    """Whether columns, several of them, add up to one in every row: the levels of a factor."""
    part = fit.model.parts[term]
    own = fit.design.factors[part.factor].Q[:, part.columns][:, sorted(columns)]
    return len(columns) > 1 and bool((own.sum(axis=1) == 1.0).all())


def _numeric(fit: Fit, term: int, pieces: Sequence[str] | dict[str, set[int]]) -> bool:
    """Whether every formula term is one column, of numbers."""
    categories = getattr(fit.spec.encoders[term], "categories", {})
    known = fit.spec.encoders[term].terms
    return not categories and all(len(known[name]) == 1 for name in pieces)


def _needed(fit: Fit, term: int, name: str, pieces: Sequence[str]) -> bool:
    """Whether a formula term is contained in another one, whose columns would change without it."""
    others = [other for other in pieces if other != name]
    if name == "1":
        return bool(others) and not _numeric(fit, term, others)
    own = set(name.split(":"))
    return any(own < set(other.split(":")) for other in others)


def _fitted(fit: Fit, cut: _Cut) -> _Smaller:
    merged = {t: tuple(fit.spec.encoders[t].terms[name]) for t, name in cut.merged}
    merged = {t: columns for t, columns in merged.items() if (t, "1") not in cut.gone}
    whole = replace(cut, gone=())
    without = {(t, c) for t, name in cut.gone for c in _pieces(fit, t, whole)[name]}
    kept = {
        t: kept_columns(len(term.columns), [c for i, c in without if i == t], merged.get(t, ()))
        for t, term in enumerate(fit.spec.terms)
    }
    split = tuple(t for t in cut.split if len(kept[t]) > 1)
    cut = replace(cut, split=split)
    reduced = reduce_fit(fit, sorted(without), uncorrelated=split, merged=merged)
    if reduced.problem is None:
        return _Smaller(cut, linear_deviance(reduced.gram, reml=fit.reml), 0, {})
    solution, model = reduced.minimise().solution, reduced.problem.model
    staying = [t for t, columns in kept.items() if columns]
    T = [model.block(solution.T, part) for part in model.parts]
    R = [reduced.gram.basis.Rq[part.factor][part.columns, part.columns] for part in model.parts]
    null = _null(staying, [kept[t] for t in staying], T, R)
    return _Smaller(cut, solution.deviance, reduced.n_theta, null)


def _formula(fit: Fit, best: _Smaller) -> str:
    """The formula that is left, or only its random part for a model made from arrays."""
    parts = []
    for t, term in enumerate(fit.spec.terms):
        left = list(_pieces(fit, t, best.cut))
        if left:
            left = left if left[0] == "1" else ["0", *left]
            left = left[1:] if left[0] == "1" and len(left) > 1 else left
            bar = "||" if t in best.cut.split else "|"
            parts.append(f"({' + '.join(left)} {bar} {term.grouping})")
    try:
        parsed = parse_formula(fit.spec.formula)
    except FormulaError:
        return " + ".join(parts) or "no random effects"
    offsets = [f"offset({text})" for text in parsed.offsets]
    return f"{parsed.response} ~ {' + '.join([parsed.fixed.text, *parts, *offsets])}"
