"""What the arguments of `fit` and `fit_regularized` may be; anything else is refused or warned about here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm.compat.statsmodels.messages import warn_unused
from sparselmm.compat.statsmodels.params import MixedLMParams, as_params

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM

METHODS = ("bfgs", "lbfgs", "cg", "nm", "powell", "basinhopping", "minimize")
NOT_OFFERED = ("newton", "ncg")
TOLERANCES = ("gtol", "ftol", "tol", "eps", "maxcor", "maxls")


def check_reml(reml: Any) -> bool:
    """REML as a bool.

    Raises
    ------
    TypeError
        For anything but True, False, 1 and 0.
    """
    if isinstance(reml, (bool, np.bool_, int, np.integer)) and reml in (0, 1):
        return bool(reml)
    raise TypeError(
        f"Found reml={reml!r}; expected True (REML) or False (maximum likelihood); write one of the two."
    )


def check_optimiser(where: str, niter_sa: Any, method: Any, fit_kwargs: Mapping[str, Any]) -> None:
    """Warn about what chooses nothing here; refuse what statsmodels refuses too.

    Parameters
    ----------
    where : str
        Name of the method that was called.
    niter_sa, method, fit_kwargs
        Its arguments.

    Raises
    ------
    ValueError, TypeError
    """
    if niter_sa:
        warn_unused(
            "niter_sa is currently ignored by statsmodels and chooses nothing here; leave it out."
        )
    _check_method(method)
    _check_maxiter(fit_kwargs.get("maxiter"))
    unknown = sorted(set(fit_kwargs) - {"maxiter", "disp", *TOLERANCES})
    if unknown:
        warn_unused(
            f"Argument{'s' * (len(unknown) > 1)} {', '.join(unknown)} not used by MixedLM.{where}; leave "
            f"{'them' if len(unknown) > 1 else 'it'} out."
        )


def _check_method(method: Any) -> None:
    if method is None:
        return
    names = [method] if isinstance(method, str) else method
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"Found method={method!r}; expected the name of one of statsmodels' optimisers or a list of such "
            "names. Leave it out: it chooses nothing here."
        )
    for name in names:
        if name.lower() in NOT_OFFERED:
            raise ValueError(
                f"method {name} not available for MixedLM; leave `method` out: the optimiser uses exact "
                "scores and Newton steps anyway."
            )
        if name.lower() not in METHODS:
            raise ValueError(
                f"method {name!r} is unknown; expected one of {', '.join(METHODS)}, or leave it out."
            )
    if names:
        warn_unused(
            f"method={method!r} chooses nothing here: one optimiser with exact scores finds the optimum that "
            "statsmodels' methods look for. Leave `method` out; the answer is the same."
        )


def _check_maxiter(maxiter: Any) -> None:
    if maxiter is None:
        return
    try:
        number = float(maxiter)
    except (TypeError, ValueError):
        number = np.nan
    if not number >= 1:
        raise ValueError(
            f"Found maxiter={maxiter!r}; expected a positive number of evaluations. Leave it out for no limit."
        )


def check_penalties(fe_pen: Any, cov_pen: Any) -> None:
    """Refuse what is no penalty.

    Raises
    ------
    TypeError
    """
    for name, penalty in (("fe_pen", fe_pen), ("cov_pen", cov_pen)):
        if penalty is not None and not (hasattr(penalty, "func") and hasattr(penalty, "deriv")):
            raise TypeError(
                f"Found {name}={penalty!r}; expected an object with func and deriv, such as the penalties of "
                "statsmodels.base._penalties."
            )
    if cov_pen is not None and not _takes_two(cov_pen.func):
        raise TypeError(
            f"Found cov_pen={cov_pen!r}, whose func does not take a covariance matrix and its inverse; expected a "
            "penalty such as statsmodels.base._penalties.PSD. Penalties of effects go to fe_pen."
        )


def _takes_two(func: Any) -> bool:
    try:
        inspect.signature(func).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # no signature to look at
        pass
    return True


def mask_of(model: MixedLM, free: Any) -> MixedLMParams | None:
    """The mask as a point; None for None.

    Raises
    ------
    TypeError
        When it is no `MixedLMParams`, ours or statsmodels'.
    ValueError
        When it belongs to another model.
    """
    point = as_params(free)
    if free is not None and point is None:
        raise TypeError(
            f"Found free={free!r}; expected a MixedLMParams of ones and zeros. Write "
            "free=MixedLMParams.from_components(fe_params, cov_re, vcomp=vcomp) with 1 where an element is "
            "estimated."
        )
    _check_shapes(model, point, "free")
    return point


def start_point(model: MixedLM, start_params: Any) -> MixedLMParams | None:
    """Starting values as a point; None for None.

    Raises
    ------
    TypeError
        When they are neither numbers nor a `MixedLMParams`, ours or statsmodels'.
    ValueError
        For a vector of another length, a point of another model, or values that are not finite.
    """
    if start_params is None:
        return None
    point = as_params(start_params)
    if point is None:
        point = _unpacked(model, start_params)
    _check_shapes(model, point, "start_params")
    if not (np.isfinite(point.cov_re).all() and np.isfinite(point.vcomp).all()):
        raise ValueError(
            "invalid start_params: found covariance parameters that are missing or infinite; expected finite "
            "ones. Leave start_params out to start where the data suggest."
        )
    return point


def _unpacked(model: MixedLM, start_params: Any) -> MixedLMParams:
    covariance = model.k_re2 + model.k_vc
    whole = covariance + model.k_fe
    try:
        packed = np.asarray(start_params, dtype=float)
    except (TypeError, ValueError):
        packed = np.empty((0, 0))
    if packed.ndim != 1 and packed.shape != (1, covariance) and packed.shape != (1, whole):
        raise TypeError(
            f"invalid start_params: found {start_params!r}; expected a MixedLMParams or a vector of "
            f"{covariance} covariance parameters. Pass `params_object` of an earlier fit, or leave it out."
        )
    packed = packed.reshape(-1)
    if len(packed) not in (covariance, whole):
        raise ValueError(
            f"invalid start_params: found {len(packed)} values; expected {covariance} covariance parameters, "
            f"or {whole} with the fixed effects before them."
        )
    has_fe = len(packed) > covariance
    return MixedLMParams.from_packed(packed, model.k_fe, model.k_re, model.use_sqrt, has_fe)


def point_of(model: MixedLM, params: Any, *, has_fe: bool = False) -> MixedLMParams:
    """Parameters handed to a method of the likelihood, as a point.

    Parameters
    ----------
    model : MixedLM
    params : MixedLMParams or array_like
    has_fe : bool
        Whether an array begins with the fixed effects; without them they are zero.

    Raises
    ------
    ValueError, TypeError
        For a vector of another length and a point of another model.
    """
    point = as_params(params)
    if point is not None:
        if not len(point.fe_params):
            point = point.copy()
            point.k_fe, point.fe_params = model.k_fe, np.zeros(model.k_fe)
        _check_shapes(model, point, "params")
        return point
    count = model.k_re2 + model.k_vc + (model.k_fe if has_fe else 0)
    what = "fixed effects, then covariance parameters" if has_fe else "covariance parameters alone"
    try:
        packed = np.asarray(params, dtype=float)
    except (TypeError, ValueError):
        packed = np.empty((0, 0))
    if packed.shape != (count,):
        found = f"a vector of {len(packed)}" if packed.ndim == 1 else repr(params)
        kind = ValueError if packed.ndim == 1 else TypeError
        raise kind(
            f"Found {found} as params; expected a vector of {count} ({what}) or a MixedLMParams, such as "
            "`params_object` of a fit."
        )
    return MixedLMParams.from_packed(packed, model.k_fe, model.k_re, model.use_sqrt, has_fe)


def _check_shapes(model: MixedLM, point: MixedLMParams | None, name: str) -> None:
    """Refuse parameters of another model."""
    if point is None:
        return
    found = (np.size(point.fe_params), np.shape(point.cov_re), np.size(point.vcomp))
    expected = (model.k_fe, (model.k_re, model.k_re), model.k_vc)
    if found != expected:
        raise ValueError(
            f"{name} has shapes {found} of fe_params, cov_re and vcomp; expected {expected}. Make it with "
            "MixedLMParams.from_components."
        )
