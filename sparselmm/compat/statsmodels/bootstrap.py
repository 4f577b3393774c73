"""Parametric bootstrap of a MixedLM: statsmodels' own resamples rows, which breaks the groups."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels.distribution import MixedLMDistribution, generator
from sparselmm.compat.statsmodels.messages import warn_unused

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.results import MixedLMResults


def bootstrap(
    self: MixedLMResults,
    nrep: int = 100,
    method: str | None = None,
    disp: int = 0,
    store: int = 1,
    rng: Any = None,
) -> tuple[Array, Array, Array]:
    """Refit to responses drawn from the fitted model.

    Parameters
    ----------
    nrep : int
    method : str, optional
        Names an optimiser in statsmodels; leave it out.
    disp : int
        Print how every refit ended.
    store : int
        Keep the estimates as ``self.bootstrap_results``.
    rng : Generator, RandomState, int or None

    Returns
    -------
    mean, std : ndarray, shape (k,)
        Of the packed parameters over the replicates.
    results : ndarray, shape (nrep, k)

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.mixedlm("Reaction ~ Days", slm.load_dataset("sleepstudy"), groups="Subject").fit()
    >>> mean, std, draws = fit.bootstrap(nrep=5, rng=1)
    >>> draws.shape
    (5, 3)
    """
    if method is not None:
        warn_unused(f"method={method!r} chooses nothing in bootstrap; leave it out.")
    model, source = self.model, generator(rng)
    distribution = MixedLMDistribution(model, np.asarray(self.params), self.scale)
    draws = []
    for _ in range(nrep):
        again = model.with_response(distribution.rvs(rng=source))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            refitted = again.fit(
                start_params=self.params_object,
                reml=self.reml,
                free=self.freepat,
                fe_pen=self.fe_pen,
                cov_pen=self.cov_pen,
                disp=disp,
            )
        draws.append(np.asarray(refitted.params))
    results = np.array(draws)
    if store:
        self.bootstrap_results = results
    return results.mean(axis=0), results.std(axis=0), results
