"""Records that several floors share: what a formula and data become before any linear algebra.

Letters: n rows, p fixed-effects columns, k factors, and for factor j: l_j levels and s_j
coefficients per level. Z is never built: row i of Z_j holds ``Q[i]`` in the s_j columns of
level ``codes[i]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray
Template: TypeAlias = Literal["unstructured", "diagonal", "scalar"]

TEMPLATES: tuple[Template, ...] = ("unstructured", "diagonal", "scalar")


@dataclass(frozen=True, slots=True)
class RandomTerm:
    """One random-effects term after the expansion of ``||``, ``/`` and ``*``.

    Attributes
    ----------
    label
        Both sides of the bar, ``"Days | Subject"``.
    grouping
        Name of the grouping factor, ``"Subject"`` or ``"dept:service"``.
    columns
        Names of the columns left of the bar, ``("Intercept", "Days")``.
    template
        Shape of the covariance matrix of the term.
    factor
        Index of the factor the term lives on.
    start
        First column of the term in the Q of that factor.
    """

    label: str
    grouping: str
    columns: tuple[str, ...]
    template: Template = "unstructured"
    factor: int = 0
    start: int = 0

    @property
    def stop(self) -> int:
        """One past the last column of the term in the Q of its factor."""
        return self.start + len(self.columns)


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """One grouping factor with the columns of all terms that live on it.

    Attributes
    ----------
    codes
        (n,) int32 in ``[0, n_levels)``.
    Q
        (n, s) float64, C-contiguous; a column of ones for an intercept.
    n_levels
        Number of levels, every one of which occurs.
    """

    codes: Array
    Q: Array
    n_levels: int


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """The rows of a model; missing values and rows of weight zero are already gone.

    Attributes
    ----------
    y
        (n,) float64.
    X
        (n, p) float64, C-contiguous; p may be 0.
    factors
        In order of decreasing number of levels (stable).
    weights, offset
        (n,) float64 or None.
    """

    y: Array
    X: Array
    factors: tuple[Factor, ...]
    weights: Array | None = None
    offset: Array | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)


@dataclass(frozen=True, slots=True, eq=False)
class NewDesign:
    """New data in the columns of a fitted model.

    Attributes
    ----------
    X
        (n, p) float64, NaN in the rows of ``missing``; None when not asked for.
    codes
        Per factor (n,) int32; -1 for unseen levels and missing values.
    Q
        Per factor (n, s); zero in the columns of terms that were not asked for.
    offset
        (n,) sum of the formula's ``offset()`` terms, or None.
    missing
        (n,) bool: rows with a missing value in a variable that was needed.
    index
        Index of a pandas frame, else None.
    """

    X: Array | None
    codes: tuple[Array, ...]
    Q: tuple[Array, ...]
    offset: Array | None
    missing: Array
    index: object | None
