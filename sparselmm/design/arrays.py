"""The front door for arrays: a design without a formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from sparselmm._types import TEMPLATES, Array, Design, Template
from sparselmm.data import Column, array_column
from sparselmm.design.assemble import TermParts, assemble
from sparselmm.design.build import kept_index, kept_numbers
from sparselmm.design.checks import check_response, check_scale
from sparselmm.design.encode import PlainColumns
from sparselmm.design.factors import Levels, code_column, learn_levels
from sparselmm.design.rows import Rows, choose_rows
from sparselmm.design.spec import DesignSpec
from sparselmm.errors import DataError


class ArrayTerm(NamedTuple):
    """One random-effects term given by arrays.

    Attributes
    ----------
    label
        Text for messages and tables, ``"x | g"``.
    grouping
        Name of the grouping factor; terms with equal names share one factor.
    columns
        Names of the columns of Q.
    template
        ``"unstructured"``, ``"diagonal"`` or ``"scalar"``.
    levels
        (n,) codes or labels of any kind; of terms that share a factor the first counts.
    Q
        (n, s), or (n,) for a single column; None for a column of ones.
    """

    label: str
    grouping: str
    columns: Sequence[str]
    template: Template
    levels: Any
    Q: Any = None


def design_from_arrays(
    y: Any,
    X: Any,
    column_names: Sequence[str],
    terms: Sequence[ArrayTerm] | Sequence[tuple[Any, ...]],
    *,
    weights: Any = None,
    offset: Any = None,
    response: str = "y",
) -> tuple[DesignSpec, Design]:
    """Make a design from arrays that are ready.

    Rows with missing values and with weight zero are dropped, levels coded, factors ordered and
    everything checked as for a formula. ``encode`` of the specification finds its columns by name.

    Parameters
    ----------
    y
        (n,) response.
    X
        (n, p) fixed-effects matrix.
    column_names
        p names.
    terms
        `ArrayTerm` records, or tuples with the same entries.
    weights, offset
        (n,) or None.
    response
        Name of the response.

    Raises
    ------
    DataError
        When lengths disagree, and as `build_design`.

    Examples
    --------
    >>> y, X = [1.0, 2, 4, 3, 5, 9], [[1.0], [1], [1], [1], [1], [1]]
    >>> spec, design = design_from_arrays(
    ...     y, X, ["const"], [("1 | g", "g", ["Intercept"], "unstructured", list("aaabbb"))]
    ... )
    >>> spec.terms[0].columns, list(spec.levels[0])
    (('Intercept',), ['a', 'b'])
    """
    n = len(y)
    y_column = array_column(y, response, n)
    records = [ArrayTerm(*entries) for entries in cast("Sequence[Any]", terms)]
    X_columns = _matrix(X, column_names, n, "X")
    Q_columns = [_matrix(t.Q, t.columns, n, f"Q of ({t.label})") for t in records]
    groups = [array_column(term.levels, term.grouping, n) for term in records]
    weight = None if weights is None else array_column(weights, "weights", n)
    shift = None if offset is None else array_column(offset, "offset", n)
    pieces = [y_column, *X_columns, *(c for Q in Q_columns for c in Q), *groups]
    rows = choose_rows([*pieces, *([shift] if shift else [])], n, weight)

    kept_y = np.array(y_column.take(rows.kept).numbers("Response"))
    check_response(kept_y, response)
    kept_weights = kept_numbers(weight, rows, "Weights")
    random = assemble(
        [_part(term, Q, rows) for term, Q in zip(records, Q_columns, strict=True)],
        _code(records, groups, rows),
        kept_weights,
    )
    spec = DesignSpec(
        formula=f"{response} ~ {' + '.join([*column_names, *(f'({t.label})' for t in records)])}",
        response=response,
        fixed=PlainColumns(tuple(column_names), intercept=False),
        terms=random.terms,
        encoders=random.encoders,
        groupings=random.groupings,
        n_dropped_missing=rows.n_missing,
        n_dropped_zero_weight=rows.n_zero_weight,
        index=kept_index(y.index if isinstance(y, pd.Series) else None, rows),
    )
    total = kept_numbers(shift, rows, "Offset")
    return spec, Design(kept_y, _stack(X_columns, rows), random.factors, kept_weights, total)


def _matrix(values: Any, names: Sequence[str], n: int, what: str) -> list[Column]:
    """Columns of a matrix; none for None, which stands for a column of ones."""
    if values is None:
        if len(names) == 1:
            return []
        raise DataError(f"{what} is missing, expected {len(names)} columns for {list(names)}.")
    shape = np.shape(values)
    matrix = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    matrix = matrix.reshape(n, -1) if len(shape) == 1 else matrix
    if matrix.shape != (n, len(names)):
        raise DataError(
            f"{what} has shape {shape}, expected ({n}, {len(names)}): one row per response, "
            f"one column per name in {list(names)}."
        )
    return [array_column(matrix[:, i], name, n) for i, name in enumerate(names)]


def _stack(columns: Sequence[Column], rows: Rows) -> Array:
    X = np.empty((rows.n, len(columns)))
    for i, column in enumerate(columns):
        X[:, i] = column.take(rows.kept).numbers("Predictor")
    check_scale(X, "Predictor", [column.name for column in columns])
    return X


def _part(term: ArrayTerm, columns: Sequence[Column], rows: Rows) -> TermParts:
    if term.template not in TEMPLATES:
        raise DataError(
            f"({term.label}) has template '{term.template}', expected one of "
            f"{', '.join(TEMPLATES)}; choose one of these."
        )
    names = tuple(term.columns)
    encoder = PlainColumns(names, False) if columns else PlainColumns((), intercept=True)
    Q = _stack(columns, rows) if columns else np.ones((rows.n, 1))
    return TermParts(term.label, names, term.template, term.grouping, encoder, Q)


def _code(
    terms: Sequence[ArrayTerm], groups: Sequence[Column], rows: Rows
) -> dict[object, tuple[Levels, Array]]:
    coded: dict[object, tuple[Levels, Array]] = {}
    for term, column in zip(terms, groups, strict=True):
        if term.grouping not in coded:
            own = code_column(column.take(rows.kept))
            coded[term.grouping] = learn_levels(term.grouping, [term.grouping], [own])
    return coded
