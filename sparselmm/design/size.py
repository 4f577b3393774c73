"""What would not fit into memory, or take hours, is refused before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import pandas as pd

from sparselmm._types import Design
from sparselmm.errors import DataError, MemoryRefusedError
from sparselmm.machine import MODEST, available_memory, size_text

if TYPE_CHECKING:
    from sparselmm.design.spec import DesignSpec

COLUMN_COPIES = (
    3  # of a matrix at the peak: as formulaic makes it, as one array, as cross-multiplied
)
MOST_PARAMETERS = 5_000  # covariance parameters; a step takes minutes from here on
STEP_MATRICES = 17  # of the order of theta that a step works with
BASES = 4  # times the matrices of all directions that an evaluation holds
MOVE_COPIES = 3  # of all random effects, moved along every covariance parameter


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


def check_products(design: Design, spec: DesignSpec, counts: Sequence[int]) -> None:
    """Refuse cross-products and steps of an optimiser that the machine cannot hold, or that would not end.

    Parameters
    ----------
    design : Design
    spec : DesignSpec
    counts
        Covariance parameters of every term.

    Raises
    ------
    MemoryRefusedError
        With what takes most of it.
    DataError
        With the term of most covariance parameters: the time of a step grows with their third power.
    """
    p = design.X.shape[1] + 1
    n_theta = sum(counts)
    if n_theta > MOST_PARAMETERS:
        most = max(counts)
        term = spec.terms[counts.index(most)]
        raise DataError(
            f"Found {n_theta:,} covariance parameters, {most:,} of them for the {len(term.columns):,} columns of "
            f"({term.label}); expected at most {MOST_PARAMETERS:,}, or steps take minutes each. Simplify what stands "
            f"left of the bar: for the levels of a factor f, (1 | {term.grouping}) + (1 | {term.grouping}:f) takes 2."
        )
    widths = [design.factors[term.factor].Q.shape[1] for term in spec.terms]
    bases = sum(count * s**2 for count, s in zip(counts, widths, strict=True))
    q = sum(factor.n_levels * factor.Q.shape[1] for factor in design.factors)
    parts = {
        f"steps in {n_theta:,} covariance parameters": 8.0
        * (STEP_MATRICES * n_theta**2 + BASES * bases),
        f"moves of {q:,} random effects along {n_theta:,} covariance parameters": 8.0
        * (MOVE_COPIES * q * n_theta),
    }
    for name, factor in zip(spec.factor_names, design.factors, strict=True):
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
    memory = available_memory(nbytes, nbytes)
    if nbytes > memory:
        raise MemoryRefusedError(
            f"Found {size_text(memory)} of free memory; the model needs {size_text(nbytes)}, "
            f"{size_text(largest)} of it for {what}. {advice} Or fit on a machine with more memory."
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
