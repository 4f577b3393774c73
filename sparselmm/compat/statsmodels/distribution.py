"""Draws from a mixed model: what statsmodels' mediation analysis asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels.components import Component
from sparselmm.compat.statsmodels.params import MixedLMParams, lower_root

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM


class MixedLMDistribution:
    """The distribution of the response of a `MixedLM` at given parameters.

    Parameters
    ----------
    model : MixedLM
    params : array_like
        Packed as `MixedLMResults.params`: covariance parameters divided by `scale`.
    scale : float
    exog : array_like, shape (n, k_fe), optional
    """

    def __init__(self, model: MixedLM, params: Any, scale: float, exog: Any = None) -> None:
        packed = np.asarray(params, dtype=float)
        count = model.k_fe + model.k_re2 + model.k_vc
        if packed.shape != (count,):
            raise ValueError(
                f"Found params of shape {packed.shape}; expected a vector of {count}, packed as `params` of a fit."
            )
        point = MixedLMParams.from_packed(packed, model.k_fe, model.k_re, False, True)
        self.model = model
        self.exog = model.exog if exog is None else np.asarray(exog)
        if self.exog.shape != model.exog.shape:
            raise ValueError(
                f"Found exog of shape {self.exog.shape}; expected {model.exog.shape}: a draw has the model's rows and "
                "groups."
            )
        self.fe_params = point.fe_params
        self.cov_re, self.vcomp, self.scale = scale * point.cov_re, scale * point.vcomp, scale

    def rvs(self, n: int | None = None, rng: Any = None, random_state: Any = None) -> Array:
        """One draw of the response.

        Parameters
        ----------
        n : int, optional
            Part of statsmodels' signature; a draw always has the model's rows.
        rng : Generator, RandomState, int or None
        random_state : optional
            An earlier name of `rng`.
        """
        del n
        source = generator(rng if rng is not None else random_state)
        model = self.model
        y = self.exog @ np.nan_to_num(self.fe_params)
        if model.exog_re is not None:
            u = source.normal(size=(model.n_groups, model.k_re)) @ lower_root(self.cov_re).T
            y = y + np.einsum("ia,ia->i", model.exog_re, u[model._groups.codes])
        for component, variance in zip(model.components, self.vcomp, strict=True):
            y = y + np.sqrt(variance) * _drawn(component, source)
        return y + np.sqrt(self.scale) * source.normal(size=len(y))


def _drawn(component: Component, source: Any) -> Array:
    u = source.normal(size=component.n_levels * component.width)
    return np.einsum("ia,ia->i", component.values, u.reshape(-1, component.width)[component.codes])


def generator(rng: Any) -> Any:
    """A Generator or RandomState as it is; a Generator from a seed or None."""
    if hasattr(rng, "normal"):
        return rng
    return np.random.default_rng(rng)
