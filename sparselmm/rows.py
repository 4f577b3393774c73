"""What a fit says about its rows: the one place above the cross-products where n comes back.

fixed part     offset + X beta
random part    sum over factors of Q_j[i] . b_j[level of row i]        O(n s_j), Z is never built
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.fit import Fit

if TYPE_CHECKING:
    from sparselmm.design import Factor


def factor_part(codes: Array, Q: Array, b: Array) -> Array:
    """Q[i] . b[codes[i]] for every row, shape (n,); zero where the code is -1.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
    Q : ndarray, shape (n, s)
    b : ndarray, shape (l, s)
    """
    padded = np.vstack([b, np.zeros((1, b.shape[1]))])
    total = Q[:, 0] * padded[codes, 0]
    for a in range(1, Q.shape[1]):
        total += Q[:, a] * padded[codes, a]
    return total


def random_part(factors: Sequence[Factor], b: Sequence[Array]) -> Array | float:
    """Sum of the random effects of every row, shape (n,)."""
    return sum(factor_part(f.codes, f.Q, own) for f, own in zip(factors, b, strict=True))


def fixed_part(fit: Fit) -> Array:
    """Offset plus X beta for the rows of the fit, shape (n,)."""
    design = fit.design
    fixed = design.X[:, fit.kept] @ fit.beta
    return fixed if design.offset is None else fixed + design.offset


def fitted_values(fit: Fit) -> Array:
    """Offset plus X beta plus Z b for the rows of the fit, shape (n,)."""
    return fixed_part(fit) + random_part(fit.design.factors, fit.b())


def scaled_residuals(fit: Fit) -> Array:
    """Residuals in units of their standard deviation sigma / sqrt(w), shape (n,)."""
    scaled = (fit.design.y - fitted_values(fit)) / np.sqrt(fit.sigma2)
    weights = fit.design.weights
    return scaled if weights is None else scaled * np.sqrt(weights)


def row_index(fit: Fit) -> pd.Index:
    """Labels of the rows used: those of the input, numbers where it has none."""
    index = fit.spec.index
    return pd.RangeIndex(fit.n) if index is None else index


def fittedvalues(fit: Fit) -> pd.Series:
    """Fitted values with random effects, shape (n,), labelled like the rows of the data used."""
    return pd.Series(fitted_values(fit), index=row_index(fit), name="fittedvalues")


def resid(fit: Fit) -> pd.Series:
    """Response minus fitted values, shape (n,), labelled like the rows of the data used."""
    return pd.Series(fit.design.y - fitted_values(fit), index=row_index(fit), name="resid")
