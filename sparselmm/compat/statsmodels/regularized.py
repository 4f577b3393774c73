"""L1 penalty on the fixed effects, the covariance held at its unpenalised estimate.

The loss is r'V^-1 r + sum_j alpha_j |beta_j| with V = scale H, as in statsmodels. With M = X'H^-1X and c = X'H^-1y it
needs nothing else: one coordinate has its minimum at soft(c_j - sum_{k != j} M_jk beta_k, alpha_j scale / 2) / M_jj.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels.engine import at_params
from sparselmm.compat.statsmodels.estimate import Estimate
from sparselmm.compat.statsmodels.fitting import fit_as
from sparselmm.compat.statsmodels.params import MixedLMParams
from sparselmm.compat.statsmodels.results import MixedLMResults

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM


def fit_regularized(
    self: MixedLM,
    start_params: Any = None,
    method: Any = "l1",
    alpha: Any = 0,
    ceps: float = 1e-4,
    ptol: float = 1e-6,
    maxit: int = 200,
    **fit_kwargs: Any,
) -> MixedLMResults:
    """Fit with a penalty on the fixed effects.

    Parameters
    ----------
    start_params : optional
        Starting values of the unpenalised fit.
    method : str or statsmodels' Penalty
        ``"l1"``, or a smooth penalty, which is then optimised together with the covariance.
    alpha : float or array_like, shape (k_fe,)
        Weights; with a Penalty one factor.
    ceps : float
        Effects smaller than this in size become zero.
    ptol : float
        The descent stops when no effect changes by more in a sweep.
    maxit : int
        Sweeps at most.
    **fit_kwargs
        Arguments of `MixedLM.fit`.

    Examples
    --------
    >>> import sparselmm as slm
    >>> model = slm.mixedlm("Reaction ~ Days", slm.load_dataset("sleepstudy"), groups="Subject")
    >>> model.fit_regularized(alpha=[0, 10]).fe_params.round(2).to_dict()
    {'Intercept': 265.96, 'Days': 7.23}
    """
    if hasattr(method, "func") and hasattr(method, "deriv"):
        method.alpha = alpha
        arguments = {**fit_kwargs, "fe_pen": method}
        return fit_as("fit_regularized", self, start_params=start_params, **arguments)
    if not (isinstance(method, str) and method.lower() == "l1"):
        raise ValueError(
            f"Invalid regularization method {method!r}; expected 'l1' or a statsmodels Penalty such as "
            "statsmodels.base._penalties.L2()."
        )
    weights = _weights(self, alpha)
    plain = fit_as("fit_regularized", self, start_params=start_params, **fit_kwargs)
    point = at_params(self.engine, plain.params_object, reml=plain.reml, profile_fe=True)
    half = self.engine.prepared.gram.basis.Rx.T @ point.solution.L_M
    kept = self.engine.prepared.gram.basis.kept
    beta = np.nan_to_num(plain.params_object.fe_params)
    own, sweeps = soft_descent(
        half @ half.T, beta[kept], 0.5 * plain.scale * weights[kept], ptol, maxit
    )
    beta[kept] = np.where(np.abs(own) < ceps, 0.0, own)
    params = MixedLMParams.from_components(
        beta, cov_re=plain.params_object.cov_re, vcomp=plain.params_object.vcomp
    )
    point = at_params(self.engine, params, reml=plain.reml, profile_fe=False)
    outcome = "penalised fixed effects"
    done = Estimate(params, plain.scale, point.llf, sweeps < maxit, outcome, {}, point)
    active = np.ones(params.k_tot, dtype=bool)
    active[: self.k_fe] = beta != 0.0
    return MixedLMResults(self, done, reml=plain.reml, hist=plain.hist, active=active)


def _weights(model: MixedLM, alpha: Any) -> Array:
    """(k_fe,) weights.

    Raises
    ------
    ValueError
    """
    try:
        weights = np.asarray(alpha, dtype=float)
    except (TypeError, ValueError):
        weights = np.array([[np.nan]])
    if weights.shape not in ((), (1,), (model.k_fe,)) or not (weights >= 0.0).all():
        raise ValueError(
            f"Found alpha={alpha!r}; expected one weight of zero or more, or {model.k_fe} of them, one for each "
            f"of {', '.join(model.exog_names)}."
        )
    return np.broadcast_to(weights, (model.k_fe,))


def soft_descent(
    M: Array, gls: Array, weights: Array, tolerance: float, sweeps: int
) -> tuple[Array, int]:
    """Minimiser of (b - gls)'M(b - gls) + 2 sum weights |b| by cyclic coordinate descent.

    Returns
    -------
    ndarray, shape (p,)
    int
        Sweeps used.
    """
    beta = gls.copy()
    slope = np.zeros_like(beta)
    for sweep in range(sweeps):
        largest = 0.0
        for j in range(len(beta)):
            target = M[j, j] * beta[j] - slope[j]
            new = np.sign(target) * max(abs(target) - weights[j], 0.0) / M[j, j]
            change = new - beta[j]
            slope += M[:, j] * change
            beta[j] = new
            largest = max(largest, abs(change))
        if largest < tolerance:
            return beta, sweep + 1
    return beta, sweeps
