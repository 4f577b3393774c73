"""What would not fit into memory is refused before it is made."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import pandas as pd

from sparselmm._types import Design
from sparselmm.errors import MemoryRefusedError
from sparselmm.machine import available_memory

MODEST = 2.0**27  # bytes that are not worth a look at what is free
COLUMN_COPIES = (
    3  # of a matrix at the peak: as formulaic makes it, as one array, as cross-multiplied
)
STEP_MATRICES = 10  # of the order of theta: bases of its template, and what a step works with


def check_columns(formula: Any, series: Mapping[str, pd.Series], n: int) -> None:
    """Refuse matrices of so many columns that the machine cannot hold them.

    Parameters
    ----------
    formula : formulaic.Formula
        The sum of terms that is to become a matrix.
    series
        Its variables.
    n
        Rows.

    Raises
    ------
    MemoryRefusedError
        With the term that has most columns.

    Notes
    -----
    A product of factors has at least the product of their numbers of levels less one; everything
    else counts as one column, so that nothing is refused which might fit.
    """
    columns = {str(term): prod(_width(f.expr, series) for f in term.factors) for term in formula}
    if not columns or 8.0 * n * sum(columns.values()) < MODEST:
        return
    term = max(columns, key=columns.__getitem__)
    nbytes = 8.0 * n * sum(columns.values()) * COLUMN_COPIES
    _refuse_beyond(
        nbytes,
        nbytes,
        f"{columns[term]:,} columns of `{term}` in {n:,} rows",
        f"Leave `{term}` out, merge levels, or make the factor a random effect.",
    )


def check_products(design: Design, names: tuple[str, ...], n_theta: int) -> None:
    """Refuse cross-products and steps of an optimiser that the machine cannot hold.

    Parameters
    ----------
    design : Design
    names
        Grouping factors.
    n_theta
        Covariance parameters.

    Raises
    ------
    MemoryRefusedError
        With what takes most of it.
    """
    p = design.X.shape[1] + 1
    parts = {f"steps in {n_theta:,} covariance parameters": 8.0 * STEP_MATRICES * n_theta**2}
    for name, factor in zip(names, design.factors, strict=True):
        s, levels = factor.Q.shape[1], factor.n_levels
        what = f"cross-products of {levels:,} levels of '{name}' with {s:,} columns each"
        parts[what] = 8.0 * levels * s * (s + p)
    largest = max(parts, key=parts.__getitem__)
    _refuse_beyond(
        sum(parts.values()),
        parts[largest],
        largest,
        "Simplify what stands left of the bar, or group rare levels.",
    )


def _refuse_beyond(nbytes: float, largest: float, what: str, advice: str) -> None:
    memory = available_memory() if nbytes > MODEST else nbytes
    if nbytes > memory:
        raise MemoryRefusedError(
            f"Found {_gib(memory)} of free memory; the model needs {_gib(nbytes)}, {_gib(largest)} of it for "
            f"{what}. {advice} Or fit on a machine with more memory."
        )


def _width(expression: str, series: Mapping[str, pd.Series]) -> int:
    """Fewest columns that one factor of a term has."""
    values = series.get(expression)
    if values is not None:
        levels = len(values.cat.categories) if isinstance(values.dtype, pd.CategoricalDtype) else 0
    elif expression.startswith("C("):
        name = expression[2:].partition(",")[0].rstrip(")").strip().strip("`")
        levels = series[name].nunique() if name in series else 0
    else:
        levels = 0
    return max(levels - 1, 1)


def _gib(nbytes: float) -> str:
    return f"{nbytes / 2**30:,.1f} GiB"
