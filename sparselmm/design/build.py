"""The front door for formulas: formula and data to a specification and its rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array, Design
from sparselmm.data import Column, Table, aligned, array_column, open_table
from sparselmm.design.assemble import TermParts, assemble
from sparselmm.design.checks import check_names, check_response, check_scale
from sparselmm.design.contrasts import check_contrasts
from sparselmm.design.encode import Encoder, evaluate, learn_columns
from sparselmm.design.factors import Levels, code_column, learn_levels
from sparselmm.design.names import expression_variables, known, variables
from sparselmm.design.rows import Rows, choose_rows
from sparselmm.design.spec import DesignSpec, Expression
from sparselmm.errors import FormulaError, pointed
from sparselmm.formula import ParsedFormula, Predictor, parse_formula


def build_design(
    formula: str,
    data: Any,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
) -> tuple[DesignSpec, Design]:
    """Learn a design from a formula and data, and code the rows with it.

    Parameters
    ----------
    formula
        In lme4's syntax.
    data
        pandas, polars or pyarrow frame, or a dictionary of arrays.
    weights, offset
        Column name or (n,) array: prior precision weights, and a known part of the mean that is
        added to the ``offset()`` terms of the formula.
    contrasts
        Per categorical column a name (``"sum"``, ``"treatment"``, ``"helmert"``, ...), a
        contrast of formulaic or a matrix.

    Returns
    -------
    spec : DesignSpec
        Names, levels and encoders, no rows.
    design : Design
        The rows without those that miss a value or have weight zero.

    Raises
    ------
    FormulaError, DataError
        The message says what was found, what is expected and what to do.

    Examples
    --------
    >>> data = {"y": [1.0, 2, 4, 3, 5, 9], "x": [0.0, 1, 2, 0, 1, 2], "g": list("aaabbb")}
    >>> spec, design = build_design("y ~ x + (1 | g)", data)
    >>> spec.column_names, spec.factor_names, design.factors[0].codes.tolist()
    (('Intercept', 'x'), ('g',), [0, 0, 0, 1, 1, 1])
    """
    parsed = parse_formula(formula)
    table = open_table(data)
    needed = _needed(parsed, table)
    weight = argument(weights, "weights", table)
    shift = argument(offset, "offset", table)
    used = {name: table.column(name) for name in needed.all}
    chosen = check_contrasts(contrasts, {name: used[name] for name in needed.predictors})
    rows = choose_rows([*used.values(), *([shift] if shift else [])], table.n, weight)
    columns = {name: column.take(rows.kept) for name, column in used.items()}

    y = _response(parsed, needed.response, columns, rows.n)
    matrices = _Matrices(columns, rows.n, chosen)
    fixed, X = matrices.learn(parsed.fixed, needed.fixed)
    kept_weights = kept_numbers(weight, rows, "Weights")
    random = assemble(
        _term_parts(parsed, needed, matrices), _code_groupings(parsed, columns), kept_weights
    )
    offsets = tuple(map(Expression, parsed.offsets, needed.offsets))
    spec = DesignSpec(
        formula=parsed.text,
        response=parsed.response,
        fixed=fixed,
        terms=random.terms,
        encoders=random.encoders,
        groupings=random.groupings,
        offsets=offsets,
        n_dropped_missing=rows.n_missing,
        n_dropped_zero_weight=rows.n_zero_weight,
        index=kept_index(table.index, rows),
        weights_name=weights if isinstance(weights, str) else None,
        offset_name=offset if isinstance(offset, str) else None,
    )
    total = _offset(offsets, columns, shift, rows)
    return spec, Design(y, X, random.factors, kept_weights, total)


def argument(values: Any, name: str, table: Table) -> Column | None:
    """Column that an argument names or holds; None for None."""
    if values is None:
        return None
    if isinstance(values, str):
        return table.column(values)
    return array_column(aligned(values, table.index, name), name, table.n)


def kept_numbers(column: Column | None, rows: Rows, role: str) -> Array | None:
    """(n,) float64 copy of the rows kept, so that later changes of the data do no harm.

    Raises
    ------
    DataError
        When they are not numbers, or of extreme size.
    """
    if column is None:
        return None
    values = np.array(column.take(rows.kept).numbers(role))
    check_scale(values[:, None], role, [column.name])
    return values


def kept_index(index: pd.Index | None, rows: Rows) -> pd.Index | None:
    """Row labels of the rows kept."""
    return index if index is None or rows.kept is None else index.take(rows.kept)


@dataclass(frozen=True, slots=True)
class _Needed:
    """Columns of the data that every part of a formula needs."""

    response: tuple[str, ...]
    fixed: tuple[str, ...]
    offsets: tuple[tuple[str, ...], ...]
    lefts: tuple[tuple[str, ...], ...]
    groupings: tuple[tuple[str, ...], ...]

    @property
    def all(self) -> tuple[str, ...]:
        parts = (self.response, self.fixed, *self.offsets, *self.lefts, *self.groupings)
        return tuple(dict.fromkeys(name for part in parts for name in part))

    @property
    def predictors(self) -> tuple[str, ...]:
        """Columns of the fixed part and of what stands left of the bars."""
        parts = (self.fixed, *self.lefts)
        return tuple(dict.fromkeys(name for part in parts for name in part))


def _needed(parsed: ParsedFormula, table: Table) -> _Needed:
    name, text = parsed.response, parsed.text
    return _Needed(
        response=known((name,), table, text)
        if parsed.response_is_name
        else expression_variables(name, table, text),
        fixed=variables(parsed.fixed, table, text),
        offsets=tuple(expression_variables(o, table, text) for o in parsed.offsets),
        lefts=tuple(variables(term.left, table, text) for term in parsed.random),
        groupings=tuple(known(term.grouping, table, text) for term in parsed.random),
    )


def _response(
    parsed: ParsedFormula, names: tuple[str, ...], columns: Mapping[str, Column], n: int
) -> Array:
    if parsed.response_is_name:
        y = np.array(columns[parsed.response].numbers("Response"))
    else:
        y = evaluate(parsed.response, _some(columns, names), n)
    check_response(y, parsed.response)
    return y


def _offset(
    offsets: Sequence[Expression], columns: Mapping[str, Column], shift: Column | None, rows: Rows
) -> Array | None:
    """Sum of the ``offset()`` terms and the argument."""
    summands = [evaluate(e.text, _some(columns, e.variables), rows.n) for e in offsets]
    if shift is not None:
        summands.append(shift.take(rows.kept).numbers("Offset"))
    if not summands:
        return None
    total = np.sum(summands, axis=0)
    check_scale(total[:, None], "Offset", [shift.name if shift else offsets[0].text])
    return total


class _Matrices:
    """Matrices of sums, made once per sum: ``y ~ x + (x | g) + (x | h)`` makes one."""

    def __init__(self, columns: Mapping[str, Column], n: int, contrasts: Mapping[str, Any]):
        self._columns = columns
        self._n = n
        self._contrasts = contrasts
        self._made: dict[Predictor, tuple[Encoder, Array]] = {}

    def learn(self, part: Predictor, names: Collection[str]) -> tuple[Encoder, Array]:
        made = self._made.get(part)
        if made is None:
            columns = _some(self._columns, names)
            made = learn_columns(part, columns, self._n, self._contrasts)
            check_names(made[0].names)
            check_scale(made[1], "Predictor", made[0].names)
            self._made[part] = made
        return made


def _term_parts(
    parsed: ParsedFormula, needed: _Needed, matrices: _Matrices
) -> tuple[TermParts, ...]:
    parts: list[TermParts] = []
    seen: set[tuple[object, str]] = set()
    for term, names in zip(parsed.random, needed.lefts, strict=True):
        encoder, Q = matrices.learn(term.left, names)
        key = frozenset(term.grouping)
        twice = [name for name in encoder.names if (key, name) in seen]
        if twice or not encoder.names:
            found = f"has the column '{twice[0]}' a second time" if twice else "has no column"
            message = (
                f"({term.label}) {found} for grouping factor '{term.group}'; every column can vary "
                "once by a factor; merge the terms, or remove the column with `0 +`."
            )
            raise FormulaError(pointed(message, parsed.text, term.start, term.stop))
        seen.update((key, name) for name in encoder.names)
        parts.append(TermParts(term.label, encoder.names, "unstructured", key, encoder, Q))
    return tuple(parts)


def _code_groupings(
    parsed: ParsedFormula, columns: Mapping[str, Column]
) -> dict[object, tuple[Levels, Array]]:
    """Levels and codes per grouping factor; a column shared by several is coded once."""
    coded: dict[str, tuple[Array, pd.Index]] = {}
    found: dict[object, tuple[Levels, Array]] = {}
    for term in parsed.random:
        key = frozenset(term.grouping)
        if key not in found:
            for name in term.grouping:
                if name not in coded:
                    coded[name] = code_column(columns[name])
            own = [coded[name] for name in term.grouping]
            found[key] = learn_levels(term.group, term.grouping, own)
    return found


def _some(columns: Mapping[str, Column], names: Collection[str]) -> dict[str, Column]:
    return {name: columns[name] for name in names}
