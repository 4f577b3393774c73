"""Questions about the likelihood of a `MixedLM` at any parameters: its methods of these names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels import curvature
from sparselmm.compat.statsmodels.arguments import point_of
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
    full = point_of(self, params).copy()
    point = _point(self, full, profile_fe)
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
    parts = _slopes(self, params, profile_fe=profile_fe, use_sqrt=self.use_sqrt)
    whole = np.concatenate(parts)
    if self._freepat is not None:
        whole = whole * self._freepat.get_packed(use_sqrt=False, has_fe=True)
    return whole[self.k_fe :] if profile_fe else whole


def score_full(self: MixedLM, params: Any, calc_fe: bool = True) -> tuple[Array, Array, Array]:
    """Gradient of `loglike` at the fixed effects given, in three parts: fe_params, cov_re, vcomp.

    Parameters
    ----------
    params : MixedLMParams or array_like
        An array holds the packed covariance parameters; the fixed effects are then zero.
    calc_fe : bool
        Without it the first part is zero.

    Examples
    --------
    >>> import sparselmm as slm
    >>> model = slm.mixedlm("Reaction ~ Days", slm.load_dataset("sleepstudy"), groups="Subject")
    >>> fit = model.fit()
    >>> [len(part) for part in model.score_full(fit.params_object)]
    [2, 1, 0]
    """
    fe, re, vc = _slopes(self, params, profile_fe=False, use_sqrt=False)
    return (fe if calc_fe else np.zeros(self.k_fe)), re, vc


def score_sqrt(self: MixedLM, params: Any, calc_fe: bool = True) -> tuple[Array, Array, Array]:
    """`score_full` in the Cholesky factor of cov_re and the roots of vcomp."""
    fe, re, vc = _slopes(self, params, profile_fe=False, use_sqrt=True)
    return (fe if calc_fe else np.zeros(self.k_fe)), re, vc


def _slopes(
    self: MixedLM, params: Any, *, profile_fe: bool, use_sqrt: bool
) -> tuple[Array, Array, Array]:
    """Derivatives of the penalised log-likelihood."""
    at = point_of(self, params).copy()
    point = _point(self, at, profile_fe)
    at.fe_params = np.nan_to_num(self.engine.beta(point.solution))
    own = Penalties(self.fe_pen, self.cov_pen).slope(at, gradient(point))
    packed = own.packed_root(at.cov_re, at.vcomp) if use_sqrt else own.packed()
    return own.fe, packed[: self.k_re2], packed[self.k_re2 :]


def hessian(self: MixedLM, params: Any) -> tuple[Array, bool]:
    """Second derivatives of `loglike` at the fixed effects given, and whether a covariance is singular.

    The parameters are fe_params, cov_re and vcomp themselves, not their roots, whatever `use_sqrt` says. Rows and
    columns of singular terms are NaN. Penalties do not count.

    Parameters
    ----------
    params : MixedLMParams or array_like
        An array begins with the fixed effects; it holds roots with `use_sqrt`.
    """
    at = point_of(self, params, has_fe=True)
    return curvature.hessian(self.engine, at, reml=self.reml)


def information(self: MixedLM, params: Any) -> Array:
    """Observed information: minus the matrix of `hessian`.

    Parameters
    ----------
    params : MixedLMParams or array_like
    """
    return -self.hessian(params)[0]


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
    at = _components(self, cov_re, vcomp, fe_params)
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


def _components(self: MixedLM, cov_re: Any, vcomp: Any, fe_params: Any = None) -> MixedLMParams:
    fe = np.zeros(self.k_fe) if fe_params is None else np.asarray(fe_params, dtype=float)
    matrix, components = np.asarray(cov_re, dtype=float), np.asarray(vcomp, dtype=float).reshape(-1)
    if matrix.size == self.k_re**2:
        matrix = matrix.reshape(self.k_re, self.k_re)
    found = (fe.shape, matrix.shape, components.shape)
    expected = ((self.k_fe,), (self.k_re, self.k_re), (self.k_vc,))
    if found != expected:
        raise ValueError(
            f"Found fe_params, cov_re and vcomp of shapes {found}; expected {expected}, those of this model."
        )
    return MixedLMParams.from_components(fe, cov_re=matrix, vcomp=components)
