"""Warnings of this interface; where statsmodels is installed they are its own kinds too."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import cache

from sparselmm.errors import (
    ConvergenceWarning,
    RankWarning,
    SingularFitWarning,
    SparseLMMWarning,
)

CALLER = 4  # frames from a warning here to the call of `fit`


class UnusedArgumentWarning(SparseLMMWarning, FutureWarning):
    """An argument of statsmodels that chooses nothing here."""


def _both(own: type[Warning], foreign: str) -> type[Warning]:
    """Our warning; where statsmodels is loaded, also caught by filters for statsmodels' one."""
    theirs = sys.modules.get("statsmodels.tools.sm_exceptions")
    return own if theirs is None else _joint(own, getattr(theirs, foreign))


@cache
def _joint(own: type[Warning], foreign: type[Warning]) -> type[Warning]:
    return type(own.__name__, (own, foreign), {"__doc__": own.__doc__})


def warn_singular(terms: str) -> None:
    """Say once that a fit lies on the boundary."""
    message = (
        f"The random effects covariance matrix is singular ({terms}): a variance is zero or a "
        "correlation is 1 or -1. The fit is the optimum; standard errors of these variance "
        "parameters do not exist. A simpler random-effects structure gives the same likelihood."
    )
    warnings.warn(message, _both(SingularFitWarning, "SingularMatrixWarning"), stacklevel=CALLER)


def warn_nearly_singular() -> None:
    """Say that a variance cannot be told from zero."""
    message = (
        "The random effects covariance matrix is nearly singular: a variance is within a tenth of a "
        "standard error of zero. The fit is the optimum; intervals from standard errors mean little here, use "
        "profile_re or a likelihood-ratio test."
    )
    warnings.warn(message, _both(SingularFitWarning, "SingularMatrixWarning"), stacklevel=CALLER)


def warn_dropped(names: Sequence[str]) -> None:
    """Say which columns of exog have no estimate."""
    message = (
        f"Columns of exog depend on the columns before them: {', '.join(names)}; their estimates are NaN and "
        "the rest is fitted without them. Leave them out."
    )
    warnings.warn(message, RankWarning, stacklevel=CALLER)


def warn_not_converged(reason: str) -> None:
    """Say that a fit has not passed its certificate."""
    kind = _both(ConvergenceWarning, "ConvergenceWarning")
    warnings.warn(f"MixedLM: {reason}.", kind, stacklevel=CALLER)


def warn_unused(message: str, level: int = CALLER) -> None:
    """Say that an argument chooses nothing here, and what to write."""
    warnings.warn(message, UnusedArgumentWarning, stacklevel=level)
