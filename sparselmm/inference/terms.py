"""Hypotheses of the terms of the fixed part: types I, II and III, as matrices over the coefficients.

Type I    rows of the triangular factor of X, scaled to a unit diagonal: a term after those before it
Type II   the same with the term moved behind all terms that do not contain it
Type III  estimable functions of a term, orthogonalised to those of the terms that contain it: means over the levels of
          other factors weigh every level alike, whatever the contrasts and the numbers of rows (SAS; Goodnight 1978,
          SAS Technical Report R-101; as in lmerTest)

A term is contained in another when its variables are a proper part of the other's and both have the same numeric ones.

The columns of X are tensor products of codings of the variables, so that functions on the cells of the variables
represent them: no row of the data is needed. `Cells` holds that representation, one block per set of numeric variables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparselmm._types import Array
from sparselmm.basis import triangular_factor
from sparselmm.design.encode import Encoder, FormulaicColumns
from sparselmm.fit import Fit

INTERCEPT = "1"
NEGLIGIBLE = 1e-8  # entry of a hypothesis that is rounding error

Piece = tuple[tuple[str, bool], ...]  # variables of a product, and whether one level is left out


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the fixed part.

    Attributes
    ----------
    name : str
    columns : tuple of int
        Its columns of X, dropped ones included.
    variables : tuple of str
        The expressions it multiplies.
    pieces : tuple of tuple of (str, bool)
        Products whose columns it consists of, in order.
    """

    name: str
    columns: tuple[int, ...]
    variables: tuple[str, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Structure:
    """Terms of the fixed part and the codings of its variables.

    Attributes
    ----------
    terms : tuple of Term
        The intercept, if any, is ``"1"``.
    codings : dict of str to ndarray, shape (levels, levels - 1)
        Contrast matrix of every categorical variable.
    widths : dict of str to int
        Columns of every numeric variable.
    """

    terms: tuple[Term, ...]
    codings: Mapping[str, Array]
    widths: Mapping[str, int]

    def numeric(self, term: Term) -> frozenset[str]:
        """Numeric variables of a term."""
        return frozenset(name for name in term.variables if name in self.widths)

    def containing(self, term: Term) -> list[Term]:
        """Terms that contain a term."""
        own = set(term.variables)
        return [
            other
            for other in self.terms
            if term.name != INTERCEPT
            and own < set(other.variables)
            and self.numeric(term) == self.numeric(other)
        ]


def structure(encoder: Encoder) -> Structure:
    """Terms and codings of a fixed part."""
    if not isinstance(encoder, FormulaicColumns):
        names = list(encoder.terms)
        terms = [Term(n, tuple(encoder.terms[n]), *_plain(n)) for n in names]
        return Structure(tuple(terms), {}, {n: 1 for n in names if n != INTERCEPT})
    spec: Any = encoder.model_spec
    codings = {factor.expr: _coding(state) for factor, state in spec.factor_contrasts.items()}
    terms = tuple(
        Term(
            str(part.term),
            tuple(encoder.terms[str(part.term)]),
            tuple(f.expr for f in part.term.factors if f.expr != INTERCEPT),
            tuple(
                tuple((f.factor.expr, bool(f.reduced)) for f in piece.factors)
                for piece in part.scoped_terms
            ),
        )
        for part in spec.structure
    )
    return Structure(terms, codings, _widths(terms, codings))


def _plain(name: str) -> tuple[tuple[str, ...], tuple[Piece, ...]]:
    return ((), ((),)) if name == INTERCEPT else ((name,), (((name, False),),))


def _coding(state: Any) -> Array:
    """Contrast matrix of a categorical variable, one row per level."""
    matrix = state.contrasts.get_coding_matrix(state.levels, reduced_rank=True)
    return np.asarray(matrix, dtype=float)


def _widths(terms: Sequence[Term], codings: Mapping[str, Array]) -> dict[str, int]:
    """Columns of every numeric variable, from the numbers of columns of the terms."""
    widths: dict[str, int] = {}
    for term in sorted(terms, key=lambda term: len(term.variables)):
        known = unknown = 0
        fresh = [name for name in term.variables if name not in codings and name not in widths]
        for piece in term.pieces:
            sizes = [_size(name, reduced, codings, widths) for name, reduced in piece]
            known += int(np.prod(sizes))
        for name in fresh:
            widths[name] = 1
        if fresh:
            unknown = len(term.columns) // max(known, 1)
            widths[fresh[0]] = max(unknown, 1)
    return widths


def _size(name: str, reduced: bool, codings: Mapping[str, Array], widths: Mapping[str, int]) -> int:
    if name in codings:
        return codings[name].shape[1] if reduced else len(codings[name])
    return widths.get(name, 1)


@dataclass(frozen=True, slots=True)
class Cells:
    """Columns of X, and of its over-parametrised form, as functions on cells.

    Attributes
    ----------
    X : ndarray, shape (cells, p)
        As the model codes them.
    base : ndarray, shape (cells, p)
        With treatment contrasts.
    full : ndarray, shape (cells, m)
        One column per combination of levels of every term.
    """

    X: Array
    base: Array
    full: Array


def make_cells(s: Structure) -> Cells:
    """Cells that tell all columns apart: every combination of a term's levels, other variables at the first."""
    treatment = {name: np.eye(len(C))[:, 1:] for name, C in s.codings.items()}
    groups: dict[frozenset[str], list[Term]] = {}
    for term in s.terms:
        groups.setdefault(s.numeric(term), []).append(term)
    blocks: list[tuple[list[Term], dict[str, Array], int]] = []
    for members in groups.values():
        blocks.append((members, *_combinations(s, members)))
    cells = sum(count for *_, count in blocks)
    p = sum(len(term.columns) for term in s.terms)
    X, base, full = np.zeros((cells, p)), np.zeros((cells, p)), []
    row = 0
    for members, levels, count in blocks:
        rows = slice(row, row + count)
        for term in members:
            X[rows, list(term.columns)] = _columns(s, term.pieces, s.codings, levels, count)
            base[rows, list(term.columns)] = _columns(s, term.pieces, treatment, levels, count)
            everything = (tuple((name, False) for name in term.variables),)
            own = _columns(s, everything, treatment, levels, count)
            whole = np.zeros((cells, own.shape[1]))
            whole[rows] = own
            full.append(whole)
        row += count
    return Cells(X, base, np.hstack(full))


def _combinations(s: Structure, terms: Sequence[Term]) -> tuple[dict[str, Array], int]:
    """Level of every variable in every cell."""
    names = list(dict.fromkeys(name for term in terms for name in term.variables))
    found = [np.zeros((1, len(names)), int)]
    for term in terms:
        sizes = [_size(name, False, s.codings, s.widths) for name in term.variables]
        grid = np.indices(sizes).reshape(len(sizes), int(np.prod(sizes))).T
        cells = np.zeros((len(grid), len(names)), int)
        cells[:, [names.index(name) for name in term.variables]] = grid
        found.append(cells)
    cells = np.unique(np.concatenate(found), axis=0)
    return dict(zip(names, cells.T, strict=True)), len(cells)


def _columns(
    s: Structure,
    pieces: Sequence[Piece],
    codings: Mapping[str, Array],
    levels: dict[str, Array],
    count: int,
) -> Array:
    """Columns of a term on the cells; the first variable of a product varies fastest."""
    out = []
    for piece in pieces:
        product = np.ones((count, 1))
        for name, reduced in piece:
            whole = np.eye(_size(name, False, s.codings, s.widths))
            coding = (codings[name] if reduced else whole)[levels[name]]
            product = (coding[:, :, None] * product[:, None, :]).reshape(count, -1)
        out.append(product)
    return np.hstack(out) if out else np.empty((count, 0))


def hypotheses(fit: Fit, type: int) -> dict[str, Array]:
    """One matrix L over the kept coefficients for every term but the intercept, shape (rows, p_kept).

    Parameters
    ----------
    type : int
        1, 2 or 3.
    """
    s = structure(fit.spec.fixed)
    place = np.full(len(fit.spec.column_names), -1)
    place[fit.kept] = np.arange(fit.p)
    own = {t.name: place[list(t.columns)][place[list(t.columns)] >= 0] for t in s.terms}
    if not fit.p:
        return {}
    if type == 3:
        return _without_intercept(_type_three(fit, s, own))
    root = fit_root(fit)
    if type == 1:
        return _without_intercept({name: _sequential(root, [], at) for name, at in own.items()})
    rows = {}
    for term in s.terms:
        later = [k for other in s.containing(term) for k in own[other.name]]
        alone = np.eye(fit.p)[own[term.name]]
        rows[term.name] = _sequential(root, later, own[term.name]) if later else alone
    return _without_intercept(rows)


def _without_intercept(rows: dict[str, Array]) -> dict[str, Array]:
    return {name: L for name, L in rows.items() if name != INTERCEPT}


def _sequential(root: Array, later: Sequence[int], own: Array) -> Array:
    """Rows of the unit triangular factor of X for some columns, the `later` ones moved behind them."""
    order = np.arange(root.shape[1])
    if len(later):
        behind = np.concatenate([own, np.asarray(later, int)])
        order = np.concatenate([np.setdiff1d(order, behind), behind])
    R = np.linalg.qr(root[:, order], mode="r")
    position = np.flatnonzero(np.isin(order, own))
    L = np.zeros((len(own), len(order)))
    L[:, order] = R[position] / np.diag(R)[position][:, None]
    L[np.abs(L) < NEGLIGIBLE] = 0.0
    return L


def fit_root(fit: Fit) -> Array:
    """A square matrix with the same cross-products as the kept columns of X, each row counted once."""
    if fit.design.weights is None:
        return fit.gram.basis.Rx
    return triangular_factor([fit.design.X[:, fit.kept]])


def _type_three(fit: Fit, s: Structure, own: Mapping[str, Array]) -> dict[str, Array]:
    """Estimable functions over the full parametrisation, orthogonalised, then over the coefficients."""
    cells = make_cells(s)
    base = cells.base if len(fit.kept) == cells.X.shape[1] else cells.X
    kept = dropped_in_kept(fit)
    functions = (kept.T @ np.linalg.pinv(base) @ cells.full).T
    _tidy(functions)
    for term in sorted(s.terms, key=lambda term: -len(term.variables)):
        containing = [k for other in s.containing(term) for k in own[other.name]]
        if containing:
            others = functions[:, containing]
            mine = functions[:, own[term.name]]
            functions[:, own[term.name]] = mine - others @ np.linalg.lstsq(others, mine)[0]
            _tidy(functions)
    embedding = np.linalg.pinv(cells.full) @ cells.X[:, fit.kept]
    rows = {name: functions[:, at].T @ embedding for name, at in own.items()}
    for L in rows.values():
        _tidy(L)
    return {name: L[np.abs(L).sum(axis=1) > NEGLIGIBLE] for name, L in rows.items()}


def _tidy(M: Array) -> None:
    """Set rounding errors to zero."""
    M[np.abs(M) < NEGLIGIBLE * np.abs(M).max(initial=0.0)] = 0.0


def dropped_in_kept(fit: Fit) -> Array:
    """C with X = X_kept C', shape (p, p_kept): the identity, and least squares for dropped columns."""
    p = len(fit.spec.column_names)
    C = np.zeros((p, fit.p))
    C[fit.kept, np.arange(fit.p)] = 1.0
    gone = np.setdiff1d(np.arange(p), fit.kept)
    if len(gone):
        R = triangular_factor([fit.design.X])
        C[gone] = np.linalg.lstsq(R[:, fit.kept], R[:, gone])[0].T
        C[np.abs(C) < NEGLIGIBLE] = 0.0
    return C
