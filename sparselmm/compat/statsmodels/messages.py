"""Warnings of this interface; where statsmodels is installed they are its own kinds too."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

from sparselmm.errors import (
    ConvergenceWarning,
    IdentifiabilityWarning,
    RankWarning,
    SingularFitWarning,
    SparseLMMWarning,
    warn,
)


class UnusedArgumentWarning(SparseLMMWarning, FutureWarning):
    """An argument of statsmodels that chooses nothing here."""


def _both(own: type[Warning], foreign: str) -> type[Warning]:
    """Our warning; where statsmodels is loaded, also caught by filters for statsmodels' one."""
    theirs = sys.modules.get("statsmodels.tools.sm_exceptions")
    return own if theirs is None else _joint(own, getattr(theirs, foreign))


@functools.cache
def _joint(own: type[Warning], foreign: type[Warning]) -> type[Warning]:
    return type(own.__name__, (own, foreign), {"__doc__": own.__doc__})


def warn_singular(terms: str) -> None:
    """Say once that a fit lies on the boundary."""
    message = (
        f"The random effects covariance matrix is singular ({terms}): a variance is zero or a "
        "correlation is 1 or -1. The fit is the optimum; standard errors of these variance "
        "parameters do not exist. A simpler random-effects structure gives the same likelihood."
    )
    warn(message, _both(SingularFitWarning, "SingularMatrixWarning"))


def warn_nearly_singular() -> None:
    """Say that a variance cannot be told from zero."""
    message = (
        "The random effects covariance matrix is nearly singular: a variance is within a tenth of a "
        "standard error of zero. The fit is the optimum; intervals from standard errors mean little here, use "
        "profile_re or a likelihood-ratio test."
    )
    warn(message, _both(SingularFitWarning, "SingularMatrixWarning"))


def warn_dropped(names: Sequence[str]) -> None:
    """Say which columns of exog have no estimate."""
    message = (
        f"Columns of exog depend on the columns before them: {', '.join(names)}; their estimates are NaN and "
        "the rest is fitted without them. Leave them out."
    )
    warn(message, RankWarning)


def warn_confounded(one: str, other: str) -> None:
    """Say that two terms have the same covariance."""
    message = (
        f"{one[0].upper()}{one[1:]} has the columns and the levels of {other}: only the sum of their variances is "
        "identified, and how it is shared between them means nothing. Leave one of them out."
    )
    warn(message, IdentifiabilityWarning)


def warn_not_converged(reason: str) -> None:
    """Say that a fit has not passed its certificate."""
    warn(f"MixedLM: {reason}.", _both(ConvergenceWarning, "ConvergenceWarning"))


def warn_unused(message: str) -> None:
    """Say that an argument chooses nothing here, and what to write."""
    warn(message, UnusedArgumentWarning)


def warn_old_components() -> None:
    """Say that dictionaries of matrices are an old format."""
    message = (
        "Using deprecated variance components format: pass exog_vc=VCSpec(names, colnames, mats) "
        "rather than a dictionary."
    )
    warn(message, FutureWarning)
