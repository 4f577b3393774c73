"""``vc_formula``: what statsmodels evaluates group by group, evaluated once for all groups.

Products of one term (``0 + C(h)``, ``0 + C(h):x``, ``0 + C(h):C(k)``) become codes within groups; sums of numeric
columns (``0 + x``, ``1 + x + z``) become columns. What depends on the group it is evaluated in (contrasts of a
factor beside an intercept, splines, centring) is evaluated group by group, as statsmodels does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels.components import (
    Component,
    coded_component,
    column_component,
    components_of,
)
from sparselmm.compat.statsmodels.formulas import engine_matrix
from sparselmm.compat.statsmodels.groups import Groups
from sparselmm.compat.statsmodels.params import VCSpec
from sparselmm.data import array_column
from sparselmm.design.factors import code_column
from sparselmm.errors import FormulaError

STATEFUL = re.compile(r"\b(C|center|standardize|scale|bs|cr|cc|te|poly|hashed)\s*\(")
CATEGORICAL = re.compile(r"^C\(\s*([A-Za-z_]\w*)\s*\)$")


class Piece(NamedTuple):
    """One factor of a product: its text with levels and codes, or with numbers."""

    text: str
    levels: pd.Index | None
    values: Array
    every: bool


def formula_components(
    vc_formula: Mapping[str, str], data: pd.DataFrame, groups: Groups, env: Mapping[str, Any]
) -> list[Component]:
    """Components of the formulas, sorted by name as in statsmodels.

    Parameters
    ----------
    vc_formula : mapping of str to str
    data : DataFrame
        Without missing values.
    groups : Groups
    env : mapping
        The caller's variables.
    """
    return [
        _component(name, vc_formula[name], data, groups, env) for name in sorted(vc_formula.keys())
    ]


def _component(
    name: str, formula: str, data: pd.DataFrame, groups: Groups, env: Mapping[str, Any]
) -> Component:
    pieces = [_pieces(term, data, env) for term in _terms(formula)]
    terms = [term for term in pieces if term is not None]
    if len(terms) < len(pieces):
        return _by_group(name, formula, data, groups, env)
    if all(piece.levels is None for term in terms for piece in term):
        texts = [":".join(piece.text for piece in term) or "Intercept" for term in terms]
        order = np.argsort([text != "Intercept" for text in texts], kind="stable")
        values = np.column_stack([_product(terms[i], len(data)) for i in order])
        return column_component(name, groups, [texts[i] for i in order], values)
    if len(terms) == 1:
        return _dummies(name, terms[0], groups)
    return _by_group(name, formula, data, groups, env)


def _dummies(name: str, pieces: Sequence[Piece], groups: Groups) -> Component:
    coded = [piece for piece in pieces if piece.levels is not None]
    plain = [piece for piece in pieces if piece.levels is None]
    return coded_component(
        name,
        groups,
        [(piece.text, piece.levels) for piece in pieces],
        [piece.values for piece in coded],
        _product(plain, len(groups.codes)) if plain else None,
        [piece.every for piece in coded],
    )


def _product(pieces: Sequence[Piece], n: int) -> Array:
    out = np.ones(n)
    for piece in pieces:
        out = out * piece.values
    return out


def _terms(formula: str) -> list[list[str]]:
    """Factors of every term; the intercept is the term without factors."""
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    text = formula.strip().removeprefix("~").strip()
    try:
        terms = list(Formula(text))
    except (FormulaicError, SyntaxError) as error:
        raise FormulaError(f"vc_formula `{formula}` cannot be read: {error}") from error
    if not terms:
        raise FormulaError(
            f"vc_formula `{formula}` has no column; expected for example '0 + C(h)'."
        )
    return [[_as_quoted(f.expr, text) for f in term.factors if f.expr != "1"] for term in terms]


def _as_quoted(factor: str, text: str) -> str:
    """A factor with the double quotes of the formula, which formulaic writes as single ones."""
    for literal in re.findall(r"\"([^\"']*)\"", text):
        factor = factor.replace(f"'{literal}'", f'"{literal}"')
    return factor


def _pieces(
    factors: Sequence[str], data: pd.DataFrame, env: Mapping[str, Any]
) -> list[Piece] | None:
    """The factors of a term, or None where one depends on the rows it is evaluated on."""
    pieces = [_piece(text, data, env) for text in factors]
    known = [piece for piece in pieces if piece is not None]
    return known if len(known) == len(pieces) else None


def _piece(text: str, data: pd.DataFrame, env: Mapping[str, Any]) -> Piece | None:
    """One factor, or None where it depends on the rows it is evaluated on."""
    found = CATEGORICAL.match(text)
    name = found.group(1) if found else text
    if name in data.columns:
        column = data[name]
        if not found and column.dtype.kind in "iuf":
            return Piece(text, None, column.to_numpy(dtype=float), False)
        return _categorical(text, column)
    if STATEFUL.search(text) or found:
        return None
    values, names, _ = engine_matrix(f"0 + {text}", data, env)
    return Piece(names[0], None, values[:, 0], False) if values.shape[1] == 1 else None


def _categorical(text: str, column: pd.Series) -> Piece:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return Piece(text, column.cat.categories, column.cat.codes.to_numpy(), True)
    if column.dtype.kind == "b":
        return Piece(text, pd.Index([False, True]), column.to_numpy().astype(np.int32), True)
    codes, levels = code_column(array_column(column, str(column.name), len(column)))
    if column.dtype.kind == "f":
        levels = levels.astype(float)
    return Piece(text, levels, codes, False)


def _by_group(
    name: str, formula: str, data: pd.DataFrame, groups: Groups, env: Mapping[str, Any]
) -> Component:
    colnames, mats = [], []
    text = formula.strip().removeprefix("~").strip()
    for group in range(len(groups.labels)):
        values, names, _ = engine_matrix(text, data.iloc[groups.rows(group)], env)
        colnames.append(names)
        mats.append(values)
    return components_of(VCSpec([name], [colnames], [mats]), groups)[0]
