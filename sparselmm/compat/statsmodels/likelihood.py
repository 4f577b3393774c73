"""Questions about the likelihood of a `MixedLM` at any parameters: its methods of these names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels import curvature
from sparselmm.compat.statsmodels.distribution import MixedLMDistribution
from sparselmm.compat.statsmodels.engine import Point, at_params, gradient, refined_llf
from sparselmm.compat.statsmodels.estimate import Penalties
from sparselmm.compat.statsmodels.params import MixedLMParams

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM


def loglike(self: MixedLM, params: Any, profile_fe: bool = True) -> float:
    """Log-likelihood (REML or ML as in the last fit), profiled over the scale.

    Parameters
    ----------
    params : MixedLMParams or array_like
        An array holds the packed covariance parameters.
    profile_fe : bool
        Take the GLS estimates of the fixed effects instead of those given.

    Examples
    --------
    >>> import sparselmm as slm
    >>> sleep = slm.load_dataset("sleepstudy")
    >>> model = slm.MixedLM.from_formula("Reaction ~ Days", sleep, groups="Subject")
    >>> round(model.loglike([1.0]), 4)
    -893.6995
    """
    point = _point(self, _params(self, params), profile_fe)
    full = _params(self, params).copy()
    full.fe_params = self.engine.beta(point.solution)
    return refined_llf(point) - Penalties(self.fe_pen, self.cov_pen).value(full)


def score(self: MixedLM, params: Any, profile_fe: bool = True) -> Array:
    """Gradient of `loglike` in the packed parameters (roots with `use_sqrt`), zero where masked.

    Parameters
    ----------
    params : MixedLMParams or array_like
    profile_fe : bool
        Without it the gradient begins with the fixed effects.
    """
    at = _params(self, params).copy()
    point = _point(self, at, profile_fe)
    at.fe_params = np.nan_to_num(self.engine.beta(point.solution))
    own = Penalties(self.fe_pen, self.cov_pen).slope(at, gradient(point))
    packed = own.packed_root(at.cov_re, at.vcomp) if self.use_sqrt else own.packed()
    whole = np.concatenate([own.fe, packed])
    if self._freepat is not None:
        whole = whole * self._freepat.get_packed(use_sqrt=False, has_fe=True)
    return whole[self.k_fe :] if profile_fe else whole


def hessian(self: MixedLM, params: Any) -> tuple[Array, bool]:
    """Second derivatives in (fe_params, cov_re, vcomp), and whether a covariance is singular.

    Rows and columns of singular terms are NaN. Penalties do not count.

    Parameters
    ----------
    params : MixedLMParams or array_like
        An array begins with the fixed effects.
    """
    at = params
    if not isinstance(at, MixedLMParams):
        at = MixedLMParams.from_packed(at, self.k_fe, self.k_re, self.use_sqrt, True)
    return curvature.hessian(self.engine, at, reml=self.reml)


def get_fe_params(self: MixedLM, cov_re: Any, vcomp: Any, tol: float = 1e-10) -> tuple[Array, bool]:
    """GLS estimates at given covariance parameters, and whether those are singular.

    Parameters
    ----------
    cov_re : array_like, shape (k_re, k_re)
    vcomp : array_like, shape (k_vc,)
    tol : float
        Eigenvalues below it count as singular; the estimates are exact in any case.
    """
    at = _components(self, cov_re, vcomp)
    point = _point(self, at, True)
    smallest = min([*np.linalg.eigvalsh(at.cov_re), *at.vcomp], default=1.0)
    return self.engine.beta(point.solution), bool(smallest < tol)


def get_scale(self: MixedLM, fe_params: Any, cov_re: Any, vcomp: Any) -> float:
    """Residual variance at given fixed effects and relative covariance parameters."""
    at = _components(self, cov_re, vcomp)
    at.fe_params = np.asarray(fe_params, dtype=float)
    return _point(self, at, False).scale


def get_distribution(
    self: MixedLM, params: Any, scale: float, exog: Any = None
) -> MixedLMDistribution:
    """The distribution of the response at given parameters, to draw from with ``rvs``.

    Parameters
    ----------
    params : array_like
        Packed as `MixedLMResults.params`.
    scale : float
    exog : array_like, optional
        The model's own when not given.
    """
    return MixedLMDistribution(self, params, scale, exog)


def _point(self: MixedLM, at: MixedLMParams, profile_fe: bool) -> Point:
    return at_params(self.engine, at, reml=self.reml, profile_fe=profile_fe)


def _params(self: MixedLM, params: Any) -> MixedLMParams:
    if isinstance(params, MixedLMParams):
        return params
    return MixedLMParams.from_packed(params, self.k_fe, self.k_re, self.use_sqrt, False)


def _components(self: MixedLM, cov_re: Any, vcomp: Any) -> MixedLMParams:
    return MixedLMParams.from_components(
        np.zeros(self.k_fe),
        cov_re=np.asarray(cov_re, dtype=float).reshape(self.k_re, self.k_re),
        vcomp=np.asarray(vcomp, dtype=float),
    )
