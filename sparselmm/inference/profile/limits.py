"""Where functions of the parameters end: their values in models without some of the random effects."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparselmm.criterion import solve_at
from sparselmm.fit import Fit
from sparselmm.inference.profile.targets import Custom
from sparselmm.inference.profile.walk import Side
from sparselmm.inference.reduce import reduce_fit

NOTE = "its value without some random effects, which the cutoff allows"
SAME = 1e-6  # share of the distance from the estimate by which a limit may lie within the curve


def close_side(fit: Fit, target: Custom, side: Side, sign: int) -> Side:
    """Ends that were not found, where a smaller model within the cutoff lies beyond the curve."""
    missing = [cutoff for cutoff, end in side.ends.items() if np.isnan(end)]
    if not missing:
        return side
    last = side.nodes[-1].phi
    slack = SAME * abs(last - side.nodes[0].phi)
    found = list(_limits(fit, target))
    for cutoff in missing:
        within = [
            value for value, rise in found if rise <= cutoff**2 and sign * (value - last) >= -slack
        ]
        if within:
            side.ends[cutoff] = sign * max(sign * value for value in within)
            side.note = NOTE
    return side


def _limits(fit: Fit, target: Custom) -> Iterator[tuple[float, float]]:
    """Values of a function in smaller models, and how much higher their deviances are."""
    columns = [(t, c) for t, term in enumerate(fit.spec.terms) for c in range(len(term.columns))]
    choices = [[one] for one in columns if fit.spec.terms[one[0]].template != "scalar"]
    terms = [[one for one in columns if one[0] == t] for t in range(len(fit.spec.terms))]
    for dropped in [*choices, *terms, columns]:
        reduced = reduce_fit(fit, dropped, reml=False)
        optimum = None if reduced.problem is None else reduced.minimise()
        internal = reduced.factors(fit, optimum)
        at = solve_at(fit.gram, fit.prepared.system, internal, reml=False)
        T = [fit.gram.basis.user_factor(j, t) for j, t in enumerate(internal)]
        value = target.value(np.append(fit.model.theta(T), np.log(at.s2)))
        if np.isfinite(value):
            yield value, at.deviance - fit.deviance
