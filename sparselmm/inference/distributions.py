"""Tail probabilities and quantiles without the cost of importing `scipy.stats`.

`scipy.special` takes a fifth of a second to import: a first summary, which needs only the normal
distribution, does not wait for it.
"""

from __future__ import annotations

import math

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import InferenceError


def two_sided_p(statistic: Array, df: Array | float = np.inf) -> Array:
    """P(|t| > |statistic|) of Student's t; of the normal distribution where df is infinite."""
    statistic, df = np.broadcast_arrays(np.asarray(statistic, float), np.asarray(df, float))
    normal = np.array([math.erfc(abs(t) / math.sqrt(2.0)) for t in statistic.ravel()])
    normal = normal.reshape(statistic.shape)
    infinite = np.isinf(df)
    if infinite.all():
        return normal
    from scipy import special

    student = special.stdtr(np.where(infinite, 1.0, df), -np.abs(statistic))
    return np.where(infinite, normal, 2.0 * student)


def two_sided_quantile(level: float, df: Array | float = np.inf) -> Array:
    """The value that |t| stays below with probability `level`."""
    from scipy import special

    df = np.asarray(df, float)
    upper = 0.5 * (1.0 + level)
    finite = np.where(np.isinf(df), 1.0, df)
    return np.where(np.isinf(df), special.ndtri(upper), special.stdtrit(finite, upper))


def f_tail(statistic: float, df: float, df_resid: float) -> float:
    """P(F > statistic); of chi-square / df where `df_resid` is infinite."""
    if np.isinf(df_resid):
        return chi2_tail(statistic * df, df)
    from scipy import special

    return float(special.fdtrc(df, df_resid, statistic))


def chi2_tail(statistic: float, df: float) -> float:
    """P(chi-square > statistic)."""
    from scipy import special

    return float(special.chdtrc(df, max(statistic, 0.0)))


def check_level(level: float) -> float:
    """A confidence level.

    Raises
    ------
    InferenceError
        When it is no number in (0, 1).
    """
    if not isinstance(level, (int, float)) or not 0.0 < level < 1.0:
        hint = f"; write {level / 100:g}" if isinstance(level, (int, float)) and level > 1 else ""
        raise InferenceError(f"Found level={level!r}; expected a number in (0, 1){hint}.")
    return float(level)
