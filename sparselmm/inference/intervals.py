"""Confidence intervals: one question, several methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import pandas as pd

from sparselmm.errors import InferenceError
from sparselmm.fit import Fit
from sparselmm.inference.wald import wald_intervals

METHODS = ("wald", "profile", "bootstrap")


def conf_int(
    fit: Fit,
    level: float = 0.95,
    method: str = "wald",
    parm: str | Sequence[str] | None = None,
    **kwargs: Any,
) -> pd.DataFrame:
    """Confidence intervals.

    Parameters
    ----------
    level : float
    method : str
        ``"wald"``: normal intervals of the fixed effects, at no cost; with ``ddf`` (as in
        `t_test`) those of Student's t. ``"profile"``: all parameters, from the profile likelihood.
        ``"bootstrap"``: all parameters, from refits of simulated responses.
    parm : str or sequence of str, optional
        Parameters to keep.
    **kwargs
        Passed on to the method.

    Returns
    -------
    pandas.DataFrame
        Columns ``lower, upper``, indexed by fixed effect and, beyond Wald, ``sd_x|g``,
        ``cor_x.z|g`` and ``sigma``.

    Raises
    ------
    InferenceError
        For an unknown method, parameter or argument, and a level outside (0, 1).

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.conf_int().round(2)
                lower   upper
    Intercept  238.03  264.78
    Days         7.44   13.50
    """
    if "alpha" in kwargs:
        raise InferenceError(
            f"Found alpha={kwargs['alpha']!r}; expected level, the coverage: level=0.95 is alpha=0.05."
        )
    if method == "wald":
        _check_arguments(kwargs, method, wald_intervals)
        return wald_intervals(fit, level, parm, **kwargs)
    if method == "profile":
        from sparselmm.inference.profile import profile_intervals

        _check_arguments(kwargs, method, profile_intervals)
        return profile_intervals(fit, level, parm, **kwargs)
    if method == "bootstrap":
        from sparselmm.inference.bootstrap import bootstrap, bootstrap_intervals

        _check_arguments(kwargs, method, bootstrap_intervals, bootstrap)
        return bootstrap_intervals(fit, level, parm, **kwargs)
    raise InferenceError(f"Found method={method!r}; expected one of {', '.join(METHODS)}.")


def _check_arguments(given: Mapping[str, Any], method: str, *functions: Callable[..., Any]) -> None:
    """Refuse arguments that a method does not have."""
    known = {name for function in functions for name in signature(function).parameters}
    known -= {"fit", "level", "parm", "settings"}
    for name, value in given.items():
        if name not in known:
            takes = ", ".join(sorted(known)) or "no further argument"
            raise InferenceError(
                f"Found {name}={value!r}; expected for method={method!r}: {takes}. Leave it out."
            )
