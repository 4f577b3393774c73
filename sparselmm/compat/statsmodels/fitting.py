"""`MixedLM.fit`: every argument of statsmodels works, or says what to write instead."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm.compat.statsmodels import estimate
from sparselmm.compat.statsmodels.arguments import (
    check_optimiser,
    check_penalties,
    check_reml,
    mask_of,
    start_point,
)
from sparselmm.compat.statsmodels.curvature import nearly_singular, regular_terms
from sparselmm.compat.statsmodels.engine import Engine
from sparselmm.compat.statsmodels.estimate import Estimate, Mask, Penalties
from sparselmm.compat.statsmodels.messages import (
    warn_dropped,
    warn_nearly_singular,
    warn_not_converged,
    warn_singular,
)
from sparselmm.compat.statsmodels.params import MixedLMParams
from sparselmm.compat.statsmodels.results import MixedLMResults
from sparselmm.optimum import Entry

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM


def fit(
    self: MixedLM,
    start_params: Any = None,
    reml: bool = True,
    niter_sa: int = 0,
    do_cg: bool = True,
    fe_pen: Any = None,
    cov_pen: Any = None,
    free: MixedLMParams | None = None,
    full_output: bool = False,
    method: Any = None,
    **fit_kwargs: Any,
) -> MixedLMResults:
    """Fit by REML or maximum likelihood.

    Parameters
    ----------
    start_params : MixedLMParams or array_like, optional
        Packed as the model packs (roots with ``use_sqrt``), with or without fixed effects.
    reml : bool
    niter_sa : int
        statsmodels ignores it; values other than 0 warn.
    do_cg : bool
        False: no optimisation, the GLS estimates at `start_params`.
    fe_pen, cov_pen : statsmodels' penalties, optional
        Subtracted from the log-likelihood, which is then maximised with respect to everything.
    free : MixedLMParams, optional
        Mask: 1 estimates an element, 0 holds it at its start. An identity ``cov_re`` gives independent
        random effects. With ``use_sqrt`` the elements are those of the Cholesky factor of cov_re.
    full_output : bool
        Attach `hist`.
    method : str or list of str, optional
        Names of statsmodels' optimisers are understood and warned about: one optimiser, with an exact score and
        a certificate, finds the optimum that all of them look for.
    **fit_kwargs
        ``maxiter`` limits the evaluations; ``disp`` prints how the fit ended; gtol, ftol, tol, eps, maxcor
        and maxls bound how far statsmodels' optimisers go, a bound that is always met here.

    Returns
    -------
    MixedLMResults

    Warns
    -----
    SingularFitWarning, ConvergenceWarning
        Also of statsmodels' kinds where it is installed.
    """
    return fit_as(
        "fit",
        self,
        start_params=start_params,
        reml=reml,
        niter_sa=niter_sa,
        do_cg=do_cg,
        fe_pen=fe_pen,
        cov_pen=cov_pen,
        free=free,
        full_output=full_output,
        method=method,
        **fit_kwargs,
    )


def fit_as(
    where: str,
    self: MixedLM,
    start_params: Any = None,
    reml: bool = True,
    niter_sa: int = 0,
    do_cg: bool = True,
    fe_pen: Any = None,
    cov_pen: Any = None,
    free: Any = None,
    full_output: bool = False,
    method: Any = None,
    **fit_kwargs: Any,
) -> MixedLMResults:
    """`fit` for the method named `where`, which messages mention."""
    check_optimiser(where, niter_sa, method, fit_kwargs)
    check_penalties(fe_pen, cov_pen)
    reml, free, start = check_reml(reml), mask_of(self, free), start_point(self, start_params)
    self.reml, self.fe_pen, self.cov_pen, self._freepat = reml, fe_pen, cov_pen, free
    penalties = Penalties(fe_pen, cov_pen)
    entries: list[Entry] = []
    limit = fit_kwargs.get("maxiter")
    if not do_cg:
        done = estimate.stay(self.engine, start or _unit(self), penalties, reml=reml)
    elif free is None and not penalties:
        done = estimate.optimum(
            _limited(self.engine, limit), start, reml=reml, report=entries.append
        )
    elif not penalties and is_diagonal(free, start):
        engine = _limited(self.diagonal_engine, limit)
        done = estimate.optimum(engine, start, reml=reml, report=entries.append)
    else:
        done = _masked(self, start, free, penalties, reml=reml, maxiter=limit)
    _report(self, done, do_cg=do_cg)
    if fit_kwargs.get("disp"):
        _say(done)
    return MixedLMResults(self, done, reml=reml, hist=[done.hist] if full_output else None)


def is_diagonal(free: MixedLMParams | None, start: MixedLMParams | None) -> bool:
    """Whether a mask asks for independent random effects and nothing else."""
    if free is None:
        return False
    mask = np.asarray(free.cov_re) != 0
    off = ~np.eye(free.k_re, dtype=bool)
    fixed_at_zero = start is None or not np.any(np.asarray(start.cov_re)[off])
    variances = mask.diagonal().all() and np.all(np.asarray(free.vcomp) != 0)
    return bool(variances and not mask[off].any() and fixed_at_zero)


def _masked(
    model: MixedLM,
    start: MixedLMParams | None,
    free: MixedLMParams | None,
    penalties: Penalties,
    *,
    reml: bool,
    maxiter: Any,
) -> Estimate:
    """Masks and penalties; without starting values the free elements begin at a fit with a diagonal cov_re."""
    k_re, k_vc = model.k_re, model.k_vc
    mask = np.ones(model.k_re2 + k_vc, dtype=bool)
    if free is not None:
        mask = free.get_packed(use_sqrt=False) != 0
    if start is None:
        near = estimate.optimum(model.diagonal_engine, None, reml=reml, report=lambda _: None)
        first = near.params
        held = ~mask
        lower = np.tril_indices(k_re)
        variances = np.maximum(np.diag(first.cov_re), 1e-4)
        fixed = held[: model.k_re2][lower[0] == lower[1]]
        first.cov_re = np.diag(np.where(fixed, 1.0, variances))
        first.vcomp = np.where(held[model.k_re2 :], 1.0, np.maximum(first.vcomp, 1e-4))
        start = first
    order = np.arange(k_re)
    return estimate.masked(
        model.engine,
        start,
        Mask(mask, model.use_sqrt, order),
        penalties,
        reml=reml,
        maxiter=None if maxiter is None else int(maxiter),
    )


def _unit(model: MixedLM) -> MixedLMParams:
    """Where statsmodels starts: unit variances."""
    return MixedLMParams.from_components(
        np.zeros(model.k_fe), cov_re=np.eye(model.k_re), vcomp=np.ones(model.k_vc)
    )


def _limited(engine: Engine, maxiter: Any) -> Engine:
    if maxiter is None:
        return engine
    return replace(engine, options=replace(engine.options, max_evaluations=int(maxiter)))


def _report(model: MixedLM, done: Estimate, *, do_cg: bool) -> None:
    if not do_cg:
        return
    dropped = [model.exog_names[i] for i in np.flatnonzero(np.isnan(done.params.fe_params))]
    if dropped:
        warn_dropped(dropped)
    if not done.converged:
        warn_not_converged(done.outcome)
        return
    inside, components = regular_terms(model.engine, done.params)
    singular = [] if inside else ["cov_re"]
    singular += [f"vcomp {model.exog_vc.names[k]}" for k in np.flatnonzero(~components)]
    if singular:
        warn_singular(", ".join(singular))
    elif nearly_singular(model.engine, done.params):
        warn_nearly_singular()


def _say(done: Estimate) -> None:
    import sys

    sys.stdout.write(f"MixedLM: {done.outcome}; log-likelihood {done.llf:.6f}\n")
