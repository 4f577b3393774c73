"""Several tests or intervals at once: Tukey's from scipy, the rest from statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.inference.distributions import two_sided_p, two_sided_quantile

LIBRARY = {
    "holm": "holm",
    "bonferroni": "bonferroni",
    "sidak": "sidak",
    "fdr": "fdr_bh",
}  # names in statsmodels.stats.multitest
ADJUSTMENTS = ("tukey", *LIBRARY, "none")
LARGE_DF = 1e6  # beyond it the studentized range is that of known variance


def adjusted_p(statistic: Array, df: Array, adjust: str, k: int) -> Array:
    """p-values of one family, adjusted; `k` means were compared."""
    if adjust == "tukey":
        from scipy.stats import studentized_range

        return studentized_range.sf(np.abs(statistic) * np.sqrt(2.0), k, np.minimum(df, LARGE_DF))
    p = two_sided_p(statistic, df)
    if adjust == "none" or len(p) == 1:
        return p
    return _library().multipletests(p, method=LIBRARY[adjust])[1]


def interval_method(adjust: str) -> str:
    """Whose simultaneous intervals go with an adjustment of p-values: Bonferroni's where it has none of its own."""
    return adjust if adjust in ("tukey", "sidak", "bonferroni", "none") else "bonferroni"


def adjusted_quantile(level: float, df: Array, adjust: str, size: int, k: int) -> Array:
    """Half-widths of simultaneous intervals in standard errors, for `size` contrasts of k means."""
    if adjust == "tukey":
        from scipy.stats import studentized_range

        distinct, again = np.unique(np.round(np.minimum(df, LARGE_DF), 6), return_inverse=True)
        return studentized_range.ppf(level, k, distinct)[again] / np.sqrt(2.0)
    method = interval_method(adjust)
    if method == "none":
        return two_sided_quantile(level, df)
    each = level ** (1.0 / size) if method == "sidak" else 1.0 - (1.0 - level) / size
    return two_sided_quantile(each, df)


def _library() -> Any:
    try:
        from statsmodels.stats import multitest
    except ImportError as error:
        raise InferenceError(
            "Adjusting p-values needs statsmodels, which is not installed; expected it, or "
            "adjust='tukey' or 'none'. Run: pip install statsmodels"
        ) from error
    return multitest
