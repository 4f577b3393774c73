"""The one place that runs formulaic: its errors become ours, its matrices plain arrays."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.design.contrasts import contrast
from sparselmm.design.size import check_columns
from sparselmm.errors import DataError, FormulaError
from sparselmm.formula.tokens import syntax_message

if TYPE_CHECKING:
    from formulaic import ModelSpec


_ONE_PER_ROW = (
    "one number or category per row is expected; check the types of its variables and what its "
    "functions return."
)


def materialise(
    source: str | ModelSpec,
    series: Mapping[str, pd.Series],
    n: int,
    contrasts: Mapping[str, Any],
    shown: str | None = None,
) -> tuple[Array, ModelSpec]:
    """(n, p) float64 matrix of a sum, and formulaic's specification that repeats it.

    Parameters
    ----------
    source
        Text of a sum, or the specification learned from it.
    series
        Variables without missing values.
    n
        Number of rows.
    contrasts
        Contrasts of some of the variables; these reach formulaic as values that carry their
        coding, so that names stay those of the variables.
    shown
        What messages call it; the text of the sum if not given.

    Raises
    ------
    FormulaError, DataError
        When formulaic cannot evaluate it, or the result is not numeric.
    MemoryRefusedError
        When a text to be learned has more columns than the machine can hold.
    """
    from formulaic import Formula
    from formulaic.materializers import PandasMaterializer
    from formulaic.transforms.contrasts import C

    plain = {name: values for name, values in series.items() if name not in contrasts}
    coded = {
        name: C(series[name], contrast(name, choice, list(series[name].cat.categories)))
        for name, choice in contrasts.items()
        if name in series
    }
    frame = pd.DataFrame(plain, index=pd.RangeIndex(n), copy=False)
    text = shown or (source if isinstance(source, str) else str(source.formula))
    with readable(text), np.errstate(all="ignore"):
        if isinstance(source, str):
            source = cast("ModelSpec", Formula(source))
            check_columns(source, series, n)
        matrix: Any = PandasMaterializer(frame, context=coded).get_model_matrix(
            source,
            output="numpy",
            na_action="ignore",
        )
    if len(matrix) != n:
        raise DataError(f"`{text}` gives {len(matrix)} values for {n} rows; {_ONE_PER_ROW}")
    return _dense(matrix, n), matrix.model_spec


@contextmanager
def readable(text: str) -> Iterator[None]:
    """Turn what formulaic raises about a sum into our errors."""
    from formulaic.errors import (
        DataMismatchWarning,
        FactorEncodingError,
        FormulaicError,
        FormulaSyntaxError,
    )

    with warnings.catch_warnings():
        warnings.simplefilter("error", DataMismatchWarning)
        try:
            yield
        except (DataMismatchWarning, FactorEncodingError) as error:
            raise DataError(
                f"The data do not fit `{text}`: {_first_sentence(error)}. "
                "Give the variables the types and categories the model was fitted with."
            ) from None
        except FormulaSyntaxError as error:
            raise FormulaError(syntax_message(error)) from None
        except (FormulaicError, SyntaxError) as error:
            raise FormulaError(
                f"`{text}` cannot be evaluated: {_first_line(error)}. Columns, numpy as `np` "
                "and formulaic's transforms can be used; compute anything else as a column first."
            ) from error
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise DataError(
                f"`{text}` cannot be evaluated with these data ({_first_line(error)}); {_ONE_PER_ROW}"
            ) from error


def check_finite(matrix: Array, names: tuple[str, ...]) -> None:
    """Refuse columns that a transformation made missing or infinite.

    Raises
    ------
    DataError
        Naming the column and the number of rows.
    """
    if np.isfinite(matrix.sum()):
        return
    for name, column in zip(names, matrix.T, strict=True):
        count = int((~np.isfinite(column)).sum())
        if count:
            raise DataError(
                f"`{name}` is not a finite number in {count} of {len(column)} rows "
                "where its variables are; change the transformation or drop these rows first."
            )


def listed(values: Any) -> str:
    """First few values for a message."""
    shown = ", ".join(repr(value) for value in list(values)[:5])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > 5 else shown


def _first_sentence(error: BaseException) -> str:
    return _first_line(error).split(". ")[0]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


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
