"""Columns of a design from a sum of terms: the fixed part, or what stands left of a bar.

Two encoders answer the same three questions (which variables, which names, which matrix).
`PlainColumns` serves sums of numeric columns without formulaic; `FormulaicColumns` serves the
rest and remembers categories, contrasts, and the state of splines and other transforms.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.data import Column, Table
from sparselmm.design.contrasts import contrast
from sparselmm.design.factors import match_levels
from sparselmm.errors import DataError, FormulaError
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
        from formulaic import Formula

        text = " + ".join(["1" if self.intercept else "0", *(f"`{v}`" for v in self.variables)])
        stub = pd.DataFrame({name: [0.0] for name in self.variables}, index=[0])
        return _materialise(Formula(text), stub, {}).model_spec

    def matrix(self, columns: Columns, n: int) -> Array:
        """(n, p) float64 matrix of some rows."""
        first = int(self.intercept)
        X = np.empty((n, first + len(self.variables)))
        X[:, :first] = 1.0
        for i, name in enumerate(self.variables, first):
            X[:, i] = columns[name].numbers("Predictor")
        return X


@dataclass(frozen=True, slots=True)
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
        return _dense(_evaluate(self.model_spec, series, n, self.contrasts), n)

    def _series(self, column: Column) -> pd.Series:
        learned = self.categories.get(column.name)
        if learned is None:
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


def variables(part: Predictor | str, table: Table) -> tuple[str, ...]:
    """Columns of the data that a sum, or an expression, needs.

    Raises
    ------
    DataError
        When one of them is not in the data.
    """
    if isinstance(part, Predictor) and part.plain:
        found = part.names
    else:
        found = _required(part.text if isinstance(part, Predictor) else f"0 + {{{part}}}", table)
    for name in found:
        table.column(name)
    return found


def learn_columns(
    part: Predictor, columns: Columns, n: int, contrasts: Mapping[str, Any]
) -> tuple[Encoder, Array]:
    """Encoder of a sum and its (n, p) matrix for the rows it was learned from.

    Raises
    ------
    FormulaError
        When formulaic cannot read or evaluate the sum.
    DataError
        When a column of the matrix is not numeric or not finite.
    """
    if part.plain and all(columns[name].kind in _NUMERIC for name in part.names):
        encoder = PlainColumns(part.names, part.intercept)
        return encoder, encoder.matrix(columns, n)
    from formulaic import Formula

    with _readable(part.text):
        formula = Formula(part.text)
    chosen = {name: value for name, value in contrasts.items() if name in columns}
    series = {name: column.series() for name, column in columns.items()}
    result = _evaluate(formula, series, n, chosen)
    categories = {
        name: values.cat.categories
        for name, values in series.items()
        if isinstance(values.dtype, pd.CategoricalDtype)
    }
    encoder = FormulaicColumns(tuple(columns), result.model_spec, categories, chosen)
    return encoder, _finite(_dense(result, n), encoder.names)


def evaluate(expression: str, columns: Columns, n: int) -> Array:
    """(n,) float64 values of one Python expression, such as a response ``np.log(y)``.

    Raises
    ------
    FormulaError, DataError
        When it cannot be evaluated, gives several columns, or gives no finite numbers.
    """
    part = Predictor(f"0 + {{{expression}}}", plain=False)
    encoder, matrix = learn_columns(part, columns, n, {})
    if matrix.shape[1] != 1 or any(column.kind == "category" for column in columns.values()):
        raise DataError(
            f"`{expression}` gives the columns {', '.join(encoder.names)}; "
            "one numeric column is expected."
        )
    return matrix[:, 0].copy()


def _required(text: str, table: Table) -> tuple[str, ...]:
    from formulaic import Formula
    from formulaic.transforms import TRANSFORMS

    with _readable(text):
        formula = Formula(text)
    found = []
    for name in sorted(str(variable) for variable in formula.required_variables):
        root = name.split(".")[0]
        if name not in table and root in table:
            found.append(root)
        elif name in table or root not in TRANSFORMS:
            found.append(name)
    return tuple(dict.fromkeys(found))


def _evaluate(spec: Any, series: Mapping[str, pd.Series], n: int, contrasts: Any) -> Any:
    """Let formulaic make a matrix; contrasts enter as variables that carry their coding."""
    from formulaic.transforms.contrasts import C

    frame = pd.DataFrame(
        {name: values for name, values in series.items() if name not in contrasts},
        index=pd.RangeIndex(n),
        copy=False,
    )
    context = {
        name: C(series[name], contrast(name, contrasts[name]))
        for name in contrasts
        if name in series
    }
    return _materialise(spec, frame, context)


def _materialise(spec: Any, frame: pd.DataFrame, context: Mapping[str, Any]) -> Any:
    from formulaic.materializers import PandasMaterializer

    with _readable(str(getattr(spec, "formula", spec))), np.errstate(all="ignore"):
        return PandasMaterializer(frame, context=context).get_model_matrix(
            spec, output="numpy", na_action="ignore"
        )


@contextmanager
def _readable(text: str) -> Iterator[None]:
    from formulaic.errors import DataMismatchWarning, FactorEncodingError, FormulaicError

    with warnings.catch_warnings():
        warnings.simplefilter("error", DataMismatchWarning)
        try:
            yield
        except (DataMismatchWarning, FactorEncodingError) as error:
            raise DataError(
                f"The data do not fit `{text}`: {str(error).splitlines()[0]} "
                "Give the variables the types and categories the model was fitted with."
            ) from None
        except FormulaicError as error:
            raise FormulaError(
                f"`{text}` cannot be evaluated: {str(error).splitlines()[0]} "
                "Columns, numpy as `np` and formulaic's transforms can be used; "
                "compute anything else as a column first."
            ) from error


def _dense(matrix: Any, n: int) -> Array:
    dense = np.asarray(matrix)
    if dense.shape[1] == 0:
        return np.empty((n, 0))
    try:
        return np.ascontiguousarray(dense, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"The columns {listed(matrix.model_spec.column_names)} are not all numeric; "
            "convert dates and objects to numbers or text first."
        ) from None


def _finite(matrix: Array, names: tuple[str, ...]) -> Array:
    if np.isfinite(matrix.sum()):
        return matrix
    for name, column in zip(names, matrix.T, strict=True):
        bad = ~np.isfinite(column)
        if bad.any():
            raise DataError(
                f"`{name}` is not a finite number in {int(bad.sum())} of {len(column)} rows "
                "where its variables are; change the transformation or drop these rows first."
            )
    return matrix


def listed(values: Any) -> str:
    """First few values for a message."""
    shown = ", ".join(repr(value) for value in list(values)[:5])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > 5 else shown
