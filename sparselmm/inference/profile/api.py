"""Profiles of a fit: who is profiled, in which process, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from sparselmm._types import Array, RandomTerm
from sparselmm.errors import ConvergenceWarning, InferenceError, warn
from sparselmm.fit import Fit
from sparselmm.fit import fit as refit
from sparselmm.inference.distributions import check_level
from sparselmm.inference.profile.find import dependent_terms, find_targets
from sparselmm.inference.profile.functions import check_functions, check_smooth
from sparselmm.inference.profile.record import Curve, Profile, make_curve
from sparselmm.inference.profile.targets import Custom, Function, Target
from sparselmm.inference.profile.trace import Context, Trace, make_context, trace
from sparselmm.inference.profile.walk import LowerDeviance
from sparselmm.options import Options
from sparselmm.threads import limited_threads
from sparselmm.varcorr import group_names

if TYPE_CHECKING:
    import pandas as pd

CURVES = 0.99  # level up to which curves are followed unless the level asked for is higher


def profile(
    fit: Fit,
    parm: str | Sequence[str] | None = None,
    *,
    level: float = 0.95,
    functions: Mapping[str, Function] | None = None,
    reach: float | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> Profile:
    r"""Profile likelihood of the parameters of a fit.

    Parameters
    ----------
    fit : Fit
        A REML fit is refitted by maximum likelihood first: as in lme4 the ML deviance is profiled, and the
        result says so.
    parm : str or sequence of str, optional
        Names of fixed effects, ``"sigma"``, standard deviations ``"sd_x|g"``, correlations ``"cor_x.z|g"``: all of
        them by default. Also variances ``"var_x|g"``, ``"sigma2"``, and ``"icc"`` (share of the variance, averaged
        over rows, that the random effects explain).
    level : float
        Level whose interval ends are solved exactly.
    functions : mapping of str to callable, optional
        Further quantities: each function takes a dict of all standard deviations, correlations and sigma by name
        and returns a number; it must be smooth, and rise or fall at the estimates.
    reach : float, optional
        |zeta| up to which the curves are followed; by default the cutoff of the level, at least that of 0.99.
    executor : concurrent.futures.Executor, optional
        Runs the parameters side by side.
    progress : bool
        Show a bar (needs tqdm).

    Returns
    -------
    Profile
        Curves, ``conf_int()``, and the tidy ``frame`` with columns ``parm, value, zeta, deviance``.

    Raises
    ------
    InferenceError
        For an unknown parameter or one that is not identified, a function that cannot be followed, a reach below
        the cutoff, and for a fit that did not converge.

    Warns
    -----
    ConvergenceWarning
        When the optimum was corrected on the way, and for ends that were not found, which are NaN.

    Notes
    -----
    zeta is the signed root of the rise of the deviance, approximately standard normal at the true value; an
    interval holds the values with \|zeta\| below the normal quantile. A standard deviation whose profile does not
    reach the cutoff above zero has the lower end 0, a correlation the end -1 or 1. When a lower deviance is met
    on the way, the optimum is corrected and the profile starts anew. A function of the parameters that cannot be
    followed to the cutoff ends where the model without some random effects has it, if the cutoff allows that model.

    References
    ----------
    Bates, D., Maechler, M., Bolker, B., Walker, S. (2015). Fitting linear mixed-effects models using lme4.
    Journal of Statistical Software 67(1), section 5.1.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> print(fit.profile(["sd_Days|Subject", "Days"]))
    Profile likelihood, 95 % intervals
    <BLANKLINE>
                     estimate  lower  upper
    sd_Days|Subject    5.7168 3.8012 8.7534
    Days               10.467 7.3587 13.576
    Note: the fit is by REML; the ML deviance is profiled, around the ML estimates
    """
    level, functions = check_level(level), check_functions(functions)
    _check_fit(fit)
    notes = []
    if fit.reml:
        notes.append("the fit is by REML; the ML deviance is profiled, around the ML estimates")
        fit = _by_ml(fit, fit.theta)
        _check_fit(fit)
    cutoff = float(ndtri(0.5 * (1.0 + level)))
    farthest = max(cutoff, float(ndtri(0.5 * (1.0 + CURVES)))) if reach is None else reach
    if not farthest >= cutoff:
        raise InferenceError(
            f"Found reach={reach}; expected at least {cutoff:.4g}, |zeta| at the ends of {100 * level:g} % intervals. "
            "Raise it, or lower the level."
        )
    for _ in range(3):
        targets = find_targets(
            fit, parm if parm is None or isinstance(parm, str) else list(parm), functions
        )
        context = make_context(fit, (cutoff,), farthest)
        _check_targets(context, targets)
        try:
            curves = _trace_all(context, targets, executor, progress)
            break
        except LowerDeviance as found:
            fall = fit.deviance - found.point.value
            fit = _by_ml(fit, found.point.theta)
            note = f"a deviance lower by {fall:.2g} was met on the way: the optimum was corrected"
            warn(note[0].upper() + note[1:], ConvergenceWarning)
            notes.append(note)
    else:
        raise InferenceError(
            "Found ever lower deviances along the profile; expected a fit at its optimum. Fit again with other "
            "start values."
        )
    notes += _bound_notes(curves)
    _warn_of_gaps(curves, level)
    return Profile(fit, level, {curve.name: curve for curve in curves}, tuple(notes))


def profile_intervals(
    fit: Fit, level: float = 0.95, parm: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """Profile-likelihood intervals only, the curves followed no farther than they must be.

    This is what ``conf_int(method="profile")`` returns.

    Parameters
    ----------
    fit : Fit
    level : float
    parm : str or sequence of str, optional

    Returns
    -------
    pandas.DataFrame
        Columns ``lower, upper``, indexed by parameter.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
    >>> fit.conf_int(method="profile").round(3)
                           lower     upper
    sd_Intercept|Batch    12.197    84.063
    sigma                 38.230    67.658
    Intercept           1486.451  1568.549
    """
    cutoff = float(ndtri(0.5 * (1.0 + check_level(level))))
    return profile(fit, parm, level=level, reach=cutoff).conf_int()


def _by_ml(fit: Fit, start: Array) -> Fit:
    """The ML optimum from a start, as exactly as a profile needs it."""
    options = Options(threads=fit.options.threads)
    return refit(fit.prepared, reml=False, options=options, start=start)


def _check_fit(fit: Fit) -> None:
    if fit.optimum.converged:
        return
    full = [term.label for term in fit.spec.terms if _coefficients(fit, term) >= fit.n]
    advice = "Fit again with more evaluations (options) or other start values."
    if full:
        advice = f"Reduce ({'), ('.join(full)}): as many random coefficients as the {fit.n} rows."
    raise InferenceError(
        f"Found {'a fit' if fit.reml else 'a fit by maximum likelihood'} that is {fit.optimum.outcome.value}; "
        f"expected a converged one to profile. {advice}"
    )


def _coefficients(fit: Fit, term: RandomTerm) -> int:
    return fit.gram.shapes[term.factor][0] * len(term.columns)


def _check_targets(context: Context, targets: list[Target]) -> None:
    """Refuse parameters that other values fit as well, and functions that cannot be walked along."""
    for term in dependent_terms(context.fit):
        group = group_names(context.fit.spec.terms)[term]
        own = [target.name for target in targets if target.name.endswith(f"|{group}")]
        if own or any(isinstance(target, Custom) for target in targets):
            raise InferenceError(
                f"Found dependent columns in ({context.fit.spec.terms[term].label}), so that "
                f"{', '.join(own) or 'its covariances'} are not identified; expected columns that can be told "
                "apart. Drop one of them, or profile the others: parm=['sigma', ...]."
            )
    for target in targets:
        if isinstance(target, Custom):
            check_smooth(context.surface, target, context.start.x)


def _trace_all(
    context: Context, targets: list[Target], executor: Executor | None, progress: bool
) -> list[Curve]:
    if executor is None:
        results: Iterable = map(partial(_trace_or_point, context), targets)
    else:  # parameters side by side, each on one thread
        results = executor.map(partial(_trace_or_point, replace(context, threads=1)), targets)
    with limited_threads(context.threads):
        return [
            make_curve(target, _unwrap(result))
            for target, result in zip(targets, _shown(results, len(targets), progress), strict=True)
        ]


def _trace_or_point(context: Context, target: Target):
    """A trace, or the better point that was met: exceptions with arguments do not travel between processes."""
    try:
        return trace(context, target)
    except LowerDeviance as found:
        return found.point


def _unwrap(result) -> Trace:
    if not isinstance(result, Trace):
        raise LowerDeviance(result)
    return result


def _shown(results: Iterable, total: int, progress: bool) -> Iterator:
    if not progress:
        return iter(results)
    from tqdm.auto import tqdm

    return iter(tqdm(results, total=total, desc="profile", unit="parameter"))


def _bound_notes(curves: list[Curve]) -> list[str]:
    notes = []
    for curve in curves:
        for side, note in zip(("lower", "upper"), curve.notes, strict=True):
            if note:
                notes.append(f"{side} end of {curve.name}: {note}")
    return list(dict.fromkeys(notes))


def _warn_of_gaps(curves: list[Curve], level: float) -> None:
    """Say which ends of intervals are missing."""
    missing = [
        f"{side} end of {curve.name} ({note})"
        for curve in curves
        for side, end, note in zip(
            ("lower", "upper"), curve.interval(level), curve.notes, strict=True
        )
        if np.isnan(end)
    ]
    if missing:
        warn(
            f"Found no {'; no '.join(missing)}: NaN in the intervals. Look at the curves with "
            "plots.profile_zeta, or take method='bootstrap'.",
            ConvergenceWarning,
        )
