"""Profile likelihood of a variance parameter, at the points and in the scale of statsmodels.

What is held fixed is the variance relative to the residual one; the first column of the result is that value times
the residual variance at the constrained optimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels.estimate import Mask, Penalties, masked
from sparselmm.compat.statsmodels.params import MixedLMParams

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.results import MixedLMResults

ROUNDING = 1e-12  # of the difference between an estimate and a distance from it


def profile_re(
    self: MixedLMResults,
    re_ix: int | str,
    vtype: str,
    num_low: int = 5,
    dist_low: float = 1.0,
    num_high: int = 5,
    dist_high: float = 1.0,
    **fit_kwargs: Any,
) -> Array:
    """Likelihoods with one variance held at a row of values around its estimate.

    Parameters
    ----------
    re_ix : int or str
        Index of the random-effects column, or name of the variance component.
    vtype : {"re", "vc"}
        Which of the two.
    num_low, num_high : int
        Points below and above the estimate.
    dist_low, dist_high : float
        How far they reach.
    **fit_kwargs
        The arguments of `MixedLM.fit` that bound its optimiser; met in any case.

    Returns
    -------
    ndarray, shape (num_low + 1 + num_high, 2)
        Variance and log-likelihood.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.mixedlm("Weight ~ Time", slm.load_dataset("dietox"), groups="Pig").fit()
    >>> curve = fit.profile_re(0, "re", num_low=2, dist_low=10, num_high=2, dist_high=10)
    >>> int(curve[:, 1].argmax())
    2
    """
    from sparselmm.compat.statsmodels.arguments import TOLERANCES

    unknown = sorted(set(fit_kwargs) - {"maxiter", "disp", "method", *TOLERANCES})
    if unknown:
        raise TypeError(f"profile_re got an unexpected argument {unknown[0]!r}; leave it out.")
    if vtype not in ("re", "vc"):
        raise ValueError(f"vtype must be 're' or 'vc'; found {vtype!r}.")
    index = _index(self, re_ix, vtype)
    estimate = (
        self.params_object.cov_re[index, index]
        if vtype == "re"
        else self.params_object.vcomp[index]
    )
    low = estimate - dist_low / self.scale
    if abs(low) <= ROUNDING * estimate:
        low = 0.0
    if low < 0.0 and num_low == 0:
        low = estimate
    if low < 0.0:
        raise ValueError(
            f"dist_low={dist_low:g} is too large and would result in a negative variance: the estimate is "
            f"{estimate * self.scale:.6g}. Try a smaller value, or num_low=0 for none below the estimate."
        )
    high = estimate + dist_high / self.scale
    below = np.linspace(low, estimate, num_low + 1)
    above = np.linspace(estimate, high, num_high + 1)[1:]
    mask = _mask(self, vtype, index)
    down = _walk(self, vtype, index, mask, below[::-1])
    up = _walk(self, vtype, index, mask, above)
    return np.array([*down[::-1], *up])


def _index(results: MixedLMResults, re_ix: Any, vtype: str) -> int:
    """Position of what is profiled.

    Raises
    ------
    IndexError, ValueError
    """
    names = results.model.exog_vc.names
    if vtype == "vc":
        if re_ix not in names:
            raise ValueError(
                f"Found re_ix={re_ix!r}; expected the name of a variance component, one of {names}. For a column "
                "of exog_re give its number and vtype='re'."
            )
        return names.index(re_ix)
    if isinstance(re_ix, str) or not 0 <= int(re_ix) < results.k_re:
        raise IndexError(
            f"Found re_ix={re_ix!r}; expected a number from 0, one of the {results.k_re} columns of exog_re "
            f"({results.model.exog_re_names}). For a variance component give its name and vtype='vc'."
        )
    return int(re_ix)


def _mask(results: MixedLMResults, vtype: str, index: int) -> Mask:
    """Everything that was free, less the profiled variance; its column comes first in the factor."""
    k_re = results.k_re
    order = np.arange(k_re)
    free_re = np.ones((k_re, k_re))
    free_vc = np.ones(results.k_vc)
    if results.freepat is not None:
        free_re = np.array(results.freepat.cov_re, dtype=float)
        free_vc = np.array(results.freepat.vcomp, dtype=float)
    if vtype == "re":
        order[0], order[index] = index, 0
        free_re = free_re[np.ix_(order, order)]
        free_re[0, 0] = 0.0
    else:
        free_vc[index] = 0.0
    free = np.concatenate([free_re[np.tril_indices(k_re)], free_vc]) != 0.0
    return Mask(free, results.use_sqrt, order)


def _walk(
    results: MixedLMResults, vtype: str, index: int, mask: Mask, values: Array
) -> list[list[float]]:
    """Constrained optima at successive values, each starting from the one before."""
    at = results.params_object.copy()
    penalties = Penalties(results.fe_pen, results.cov_pen)
    found = []
    for value in values:
        at = _moved(at, vtype, index, float(value))
        done = masked(results.model.engine, at, mask, penalties, reml=results.reml)
        at = done.params.copy()
        found.append([float(value) * done.scale, done.llf])
    return found


def _moved(at: MixedLMParams, vtype: str, index: int, value: float) -> MixedLMParams:
    """The point with one variance changed, correlations kept."""
    moved = at.copy()
    if vtype == "vc":
        moved.vcomp[index] = value
        return moved
    factor = np.ones(len(at.cov_re))
    factor[index] = np.sqrt(value / at.cov_re[index, index]) if at.cov_re[index, index] else 0.0
    moved.cov_re = at.cov_re * np.outer(factor, factor)
    moved.cov_re[index, index] = value
    return moved
