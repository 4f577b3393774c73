"""Columns of a design from a sum of terms: the fixed part, or what stands left of a bar.

Two encoders answer the same three questions (which variables, which names, which matrix).
`PlainColumns` serves sums of numeric columns without formulaic; `FormulaicColumns` serves the
rest and remembers categories, contrasts, and the state of splines and other transforms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.data import Column
from sparselmm.design.factors import match_levels
from sparselmm.design.materialise import check_finite, listed, materialise
from sparselmm.errors import DataError
from sparselmm.formula import Predictor

if TYPE_CHECKING:
    from formulaic import ModelSpec

Columns = Mapping[str, Column]

_NUMERIC = ("number", "boolean")


@dataclass(frozen=True, slots=True)
class PlainColumns:
    """An intercept and numeric columns as they are."""

    variables: tuple[str, ...]
    intercept: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the matrix."""
        return ("Intercept", *self.variables) if self.intercept else self.variables

    @property
    def terms(self) -> dict[str, tuple[int, ...]]:
        """Columns of every term; the intercept is the term ``"1"``."""
        names = ("1", *self.variables) if self.intercept else self.variables
        return {name: (i,) for i, name in enumerate(names)}

    @property
    def model_spec(self) -> ModelSpec:
        """The formulaic specification that gives the same columns."""
        text = " + ".join(["1" if self.intercept else "0", *(f"`{v}`" for v in self.variables)])
        stub = {name: pd.Series([0.0]) for name in self.variables}
        return materialise(text, stub, 1, {})[1]

    def matrix(self, columns: Columns, n: int) -> Array:
        """(n, p) float64 matrix of some rows."""
        first = int(self.intercept)
        X = np.empty((n, first + len(self.variables)))
        X[:, :first] = 1.0
        for i, name in enumerate(self.variables, first):
            X[:, i] = columns[name].numbers("Predictor")
        return X


@dataclass(frozen=True, slots=True, eq=False)
class FormulaicColumns:
    """Columns by formulaic, with everything it learned from the first rows.

    Attributes
    ----------
    variables
        Columns of the data that are needed.
    model_spec
        formulaic's specification with categories and the state of transforms.
    categories
        Categories seen, per categorical variable.
    contrasts
        Contrasts chosen by the caller, per variable.
    """

    variables: tuple[str, ...]
    model_spec: ModelSpec
    categories: Mapping[str, pd.Index]
    contrasts: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of the matrix."""
        return tuple(self.model_spec.column_names)

    @property
    def terms(self) -> dict[str, tuple[int, ...]]:
        """Columns of every term; the intercept is the term ``"1"``."""
        return {str(term): tuple(at) for term, at in self.model_spec.term_indices.items()}

    def matrix(self, columns: Columns, n: int) -> Array:
        """(n, p) float64 matrix of some rows.

        Raises
        ------
        DataError
            When a category was not among the ones learned, or a variable changed its kind.
        """
        series = {name: self._series(columns[name]) for name in self.variables}
        return materialise(self.model_spec, series, n, self.contrasts)[0]

    def _series(self, column: Column) -> pd.Series:
        learned = self.categories.get(column.name)
        if learned is None:
            if column.kind == "category":
                column.numbers("Predictor")
            return column.series()
        codes = match_levels(learned, column)
        if (codes < 0).any():
            unseen = column.take(np.flatnonzero(codes < 0)).series().unique()
            raise DataError(
                f"'{column.name}' holds {listed(unseen)}, which the model was not fitted with; "
                f"expected one of {listed(learned)}; drop these rows or fit with them."
            )
        return pd.Series(pd.Categorical.from_codes(codes, categories=learned))  # type: ignore[arg-type]


Encoder = PlainColumns | FormulaicColumns


def learn_columns(
    part: Predictor, columns: Columns, n: int, contrasts: Mapping[str, Any]
) -> tuple[Encoder, Array]:
    """Encoder of a sum and its (n, p) matrix for the rows it was learned from.

    Raises
    ------
    FormulaError
        When formulaic cannot evaluate the sum.
    DataError
        When a column of the matrix is not numeric or not finite, and for a category of one level.
    """
    if part.plain and all(columns[name].kind in _NUMERIC for name in part.names):
        encoder = PlainColumns(part.names, part.intercept)
        return encoder, encoder.matrix(columns, n)
    for name in part.names:
        _check_kind(columns[name])
    chosen = {name: value for name, value in contrasts.items() if name in columns}
    series = {name: column.series() for name, column in columns.items()}
    matrix, spec = materialise(part.text, series, n, chosen)
    categories = {
        name: pd.Index(values.cat.categories)
        for name, values in series.items()
        if isinstance(values.dtype, pd.CategoricalDtype)
    }
    encoder = FormulaicColumns(tuple(columns), spec, categories, chosen)
    _check_levels(spec, n)
    check_finite(matrix, encoder.names)
    return encoder, matrix


def evaluate(expression: str, columns: Columns, n: int) -> Array:
    """(n,) float64 values of one Python expression, such as a response ``np.log(y)``.

    Raises
    ------
    FormulaError, DataError
        When it cannot be evaluated, or does not give one column of finite numbers.
    """
    series = {name: column.series() for name, column in columns.items()}
    matrix, spec = materialise(f"0 + {{{expression}}}", series, n, {}, expression)
    kinds = {kind.value for kind, _ in spec.encoder_state.values()}
    if matrix.shape[1] != 1 or "categorical" in kinds:
        raise DataError(
            f"`{expression}` gives {matrix.shape[1]} columns ({', '.join(spec.column_names)}), "
            "one column of numbers is expected; compute it in the data first."
        )
    check_finite(matrix, tuple(spec.column_names))
    return matrix[:, 0].copy()


def _check_levels(spec: ModelSpec, n: int) -> None:
    """Refuse categorical predictors of one level, whose columns formulaic leaves out."""
    for factor, (_, state) in spec.encoder_state.items():
        levels = state.get("categories")
        if levels is not None and len(levels) < 2:
            raise DataError(
                f"Predictor `{factor}` has one level ({levels[0]}) in the {n} rows used; at least 2 "
                "are expected; remove it from the formula, or check the column and the rows kept."
            )


def _check_kind(column: Column) -> None:
    if column.kind == "time":
        raise DataError(
            f"Predictor '{column.name}' holds {column.describe()}, numbers, text or categories "
            "are expected; convert it, for example to days since the first."
        )
