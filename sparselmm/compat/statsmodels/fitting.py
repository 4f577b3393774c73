"""`MixedLM.fit`: every argument of statsmodels works, or says what to write instead."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.compat.statsmodels import estimate
from sparselmm.compat.statsmodels.curvature import nearly_singular, regular_terms
from sparselmm.compat.statsmodels.engine import Engine
from sparselmm.compat.statsmodels.estimate import Estimate, Mask, Penalties
from sparselmm.compat.statsmodels.messages import (
    warn_dropped,
    warn_nearly_singular,
    warn_not_converged,
    warn_singular,
    warn_unused,
)
from sparselmm.compat.statsmodels.params import MixedLMParams
from sparselmm.compat.statsmodels.results import MixedLMResults
from sparselmm.optimise import Entry

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM

METHODS = ("bfgs", "lbfgs", "cg", "nm", "powell", "basinhopping", "minimize")
NOT_OFFERED = ("newton", "ncg")
TOLERANCES = ("gtol", "ftol", "tol", "eps", "maxcor", "maxls")


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
    _check_arguments(niter_sa, method, fit_kwargs)
    _check_shapes(self, free, "free")
    _check_shapes(self, start_params, "start_params")
    for name, penalty in (("fe_pen", fe_pen), ("cov_pen", cov_pen)):
        if penalty is not None and not (hasattr(penalty, "func") and hasattr(penalty, "deriv")):
            raise TypeError(
                f"Found {name}={penalty!r}; expected an object with func and deriv, such as the penalties of "
                "statsmodels.base._penalties."
            )
    self.reml, self.fe_pen, self.cov_pen, self._freepat = reml, fe_pen, cov_pen, free
    penalties = Penalties(fe_pen, cov_pen)
    start = start_point(self, start_params)
    entries: list[Entry] = []
    limit = fit_kwargs.get("maxiter")
    if not do_cg:
        default = start_point(self, np.concatenate([_identity(self.k_re), np.ones(self.k_vc)]))
        done = estimate.stay(self.engine, start or default, penalties, reml=reml)  # type: ignore[arg-type]
    elif free is None and not penalties:
        done = estimate.optimum(
            _limited(self.engine, limit), start, reml=reml, report=entries.append
        )
    elif not penalties and is_diagonal(free, start):
        engine = _limited(self.diagonal_engine, limit)
        done = estimate.optimum(engine, start, reml=reml, report=entries.append)
    else:
        done = _masked(self, start, free, penalties, reml=reml)
    _report(self, done, do_cg=do_cg)
    if fit_kwargs.get("disp"):
        _say(done)
    return MixedLMResults(self, done, reml=reml, hist=[done.hist] if full_output else None)


def start_point(model: MixedLM, start_params: Any) -> MixedLMParams | None:
    """Starting values as a point; None for None.

    Raises
    ------
    ValueError
        For a vector of another length.
    """
    if start_params is None or isinstance(start_params, MixedLMParams):
        return start_params
    packed = np.asarray(start_params, dtype=float)
    covariance = model.k_re2 + model.k_vc
    if len(packed) not in (covariance, covariance + model.k_fe):
        raise ValueError(
            f"invalid start_params: found {len(packed)} values; expected {covariance} covariance parameters, "
            f"or {covariance + model.k_fe} with the fixed effects before them."
        )
    return MixedLMParams.from_packed(
        packed, model.k_fe, model.k_re, model.use_sqrt, len(packed) > covariance
    )


def _check_shapes(model: MixedLM, params: Any, name: str) -> None:
    """Refuse parameters of another model."""
    if not isinstance(params, MixedLMParams):
        return
    found = (len(params.fe_params), np.shape(params.cov_re), len(params.vcomp))
    expected = (model.k_fe, (model.k_re, model.k_re), model.k_vc)
    if found != expected:
        raise ValueError(
            f"{name} has shapes {found} of fe_params, cov_re and vcomp; expected {expected}. Make it with "
            "MixedLMParams.from_components."
        )


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
        model.engine, start, Mask(mask, model.use_sqrt, order), penalties, reml=reml
    )


def _identity(k: int) -> Array:
    return np.eye(k)[np.tril_indices(k)]


def _limited(engine: Engine, maxiter: Any) -> Engine:
    if maxiter is None:
        return engine
    return replace(engine, options=replace(engine.options, max_evaluations=int(maxiter)))


def _check_arguments(niter_sa: int, method: Any, fit_kwargs: dict[str, Any]) -> None:
    if niter_sa:
        warn_unused(
            "niter_sa is currently ignored by statsmodels and chooses nothing here; leave it out."
        )
    names = [] if method is None else [method] if isinstance(method, str) else list(method)
    for name in names:
        if str(name).lower() in NOT_OFFERED:
            raise ValueError(
                f"method {name} not available for MixedLM; leave `method` out: the optimiser uses exact "
                "scores and Newton steps anyway."
            )
        if str(name).lower() not in METHODS:
            raise ValueError(
                f"method {name!r} is unknown; expected one of {', '.join(METHODS)}, or leave it out."
            )
    if names:
        warn_unused(
            f"method={method!r} chooses nothing here: one optimiser with exact scores finds the optimum that "
            "statsmodels' methods look for. Leave `method` out; the answer is the same."
        )
    unknown = sorted(set(fit_kwargs) - {"maxiter", "disp", *TOLERANCES})
    if unknown:
        warn_unused(
            f"Argument{'s' * (len(unknown) > 1)} {', '.join(unknown)} not used by MixedLM.fit; leave "
            f"{'them' if len(unknown) > 1 else 'it'} out."
        )


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
