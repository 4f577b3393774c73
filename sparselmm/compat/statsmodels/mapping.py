"""statsmodels' parts of a model as random-effects terms of the engine.

    groups, exog_re            (exog_re | groups), unstructured or diagonal
    component of dummies       (1 | group:h), or (0 + x | group:h) where a number multiplies them
    component of columns       (0 + x | group), one variance for all its columns

Components whose levels are the groups, or the levels of an earlier component, live on the same factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._types import Array, Design, Factor, RandomTerm, Template
from sparselmm.compat.statsmodels.components import Component
from sparselmm.compat.statsmodels.groups import Groups
from sparselmm.compat.statsmodels.messages import warn_confounded
from sparselmm.design.checks import check_response, check_size
from sparselmm.design.encode import PlainColumns
from sparselmm.design.factors import Levels
from sparselmm.design.spec import DesignSpec
from sparselmm.errors import DataError

WIDEST_CHECK = 12  # columns of a term up to which confounding with the residual is looked for


@dataclass(frozen=True, slots=True)
class Place:
    """Where a term lives: rows and columns of the T of one factor."""

    factor: int
    columns: slice


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of statsmodels' parameters.

    Attributes
    ----------
    re : Place or None
        cov_re.
    vc : tuple of Place
        One per variance component.
    """

    re: Place | None
    vc: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One random-effects term before factors are ordered."""

    label: str
    columns: tuple[str, ...]
    template: Template
    codes: Array
    n_levels: int
    Q: Array

    @property
    def title(self) -> str:
        """What messages call it."""
        name = self.label.removeprefix("component ")
        return "the random effects of the groups" if name == self.label else f"component '{name}'"


def make_design(
    y: Array,
    X: Array,
    names: tuple[Sequence[str], Sequence[str], str],
    groups: Groups,
    exog_re: Array | None,
    components: Sequence[Component],
    *,
    diagonal: bool,
) -> tuple[DesignSpec, Design, Layout]:
    """Design of a MixedLM and the places of its parameters.

    Parameters
    ----------
    y : ndarray, shape (n,)
    X : ndarray, shape (n, k_fe)
    names : tuple
        Names of the columns of X, of exog_re, and of the response.
    groups : Groups
    exog_re : ndarray, shape (n, k_re), or None
    components : sequence of Component
    diagonal : bool
        Whether the random effects are independent.

    Raises
    ------
    DataError
        For a constant response and for variances that cannot be told from the residual.

    Warns
    -----
    IdentifiabilityWarning
        For a component that repeats another term.
    """
    parts = _parts(groups, exog_re, names[1], components, diagonal)
    check_response(y, names[2])
    owners: list[list[Part]] = []
    for part in parts:
        home = next((own for own in owners if _same_levels(own[0], part)), None)
        if home is None:
            owners.append([part])
        else:
            for other in home:
                if _repeats(part, other):
                    warn_confounded(part.title, other.title)
            home.append(part)
    owners.sort(key=lambda own: -own[0].n_levels)
    factors, terms = [], []
    for j, own in enumerate(owners):
        Q = np.hstack([part.Q for part in own]) if len(own) > 1 else own[0].Q
        factors.append(Factor(own[0].codes, np.ascontiguousarray(Q), own[0].n_levels))
        start = 0
        for part in own:
            terms.append(
                RandomTerm(part.label, own[0].label, part.columns, part.template, j, start)
            )
            start += len(part.columns)
    for term in terms:
        _check(term, factors[term.factor])
    places = {t.label: Place(t.factor, slice(t.start, t.stop)) for t in terms}
    layout = Layout(
        None if exog_re is None else places["groups"],
        tuple(places[f"component {c.name}"] for c in components),
    )
    return _spec(names, tuple(terms), owners), Design(y, X, tuple(factors)), layout


def _parts(
    groups: Groups,
    exog_re: Array | None,
    re_names: Sequence[str],
    components: Sequence[Component],
    diagonal: bool,
) -> list[Part]:
    parts = []
    if exog_re is not None:
        columns = tuple(f"re {i} {name}" for i, name in enumerate(re_names))
        shape: Template = "diagonal" if diagonal else "unstructured"
        parts.append(Part("groups", columns, shape, groups.codes, len(groups.labels), exog_re))
    for c in components:
        columns = tuple(f"{c.name} {i}" for i in range(c.width))
        label = f"component {c.name}"
        parts.append(Part(label, columns, "scalar", c.codes, c.n_levels, c.values))
    return parts


def _same_levels(a: Part, b: Part) -> bool:
    return a.n_levels == b.n_levels and (a.codes is b.codes or np.array_equal(a.codes, b.codes))


def _repeats(part: Part, other: Part) -> bool:
    """Whether a component on the levels of another term adds no covariance that this one lacks."""
    if part.template != "scalar":
        return False
    if other.template == "scalar":
        return np.array_equal(part.Q, other.Q)
    return all(any(np.array_equal(q, own) for own in other.Q.T) for q in part.Q.T)


def _check(term: RandomTerm, factor: Factor) -> None:
    count = len(term.columns)
    if factor.n_levels * count < 2 or (factor.n_levels < 2 and term.template != "scalar"):
        what = "the groups" if term.label == "groups" else f"'{term.label}'"
        raise DataError(
            f"The random effects of {what} have one level for {len(factor.codes)} rows: a variance cannot be "
            "estimated from one draw. With a single group write re_formula='0' and a vc_formula such as "
            "{'h': '0 + C(h)'}."
        )
    if count <= WIDEST_CHECK:
        check_size(term, factor, None)


def _spec(
    names: tuple[Sequence[str], Sequence[str], str],
    terms: tuple[RandomTerm, ...],
    owners: list[list[Part]],
) -> DesignSpec:
    fixed, _, response = names
    return DesignSpec(
        formula=f"{response} ~ {' + '.join(fixed)} and {', '.join(t.label for t in terms)}",
        response=response,
        fixed=PlainColumns(tuple(fixed), intercept=False),
        terms=terms,
        encoders=tuple(PlainColumns(term.columns, intercept=False) for term in terms),
        groupings=tuple(
            Levels(own[0].label, (own[0].label,), (pd.RangeIndex(own[0].n_levels),))
            for own in owners
        ),
    )
