"""What a fit has to warn about: dropped columns, a failed certificate, a singular optimum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sparselmm import estimates
from sparselmm.errors import ConvergenceWarning, RankWarning, SingularFitWarning
from sparselmm.fit import Fit
from sparselmm.report.text import count
from sparselmm.varcorr import describe_singularity

EXACT = 1e-13  # of the response's length: what counts as nothing left
FREE = 1e5  # pivots of T at which random effects of any size are as good as free
NOTHING = 1e-9  # share of the sum of squares that may be left there


def complaints(fit: Fit) -> Iterator[tuple[type[Warning], str]]:
    """What a fit has to warn about, each once."""
    gone = estimates.dropped(fit)
    if gone:
        yield RankWarning, rank_message(gone, len(estimates.names(fit)))
    if not fit.optimum.converged:
        yield ConvergenceWarning, boundless_message(fit) or convergence_message(fit)
    singular = describe_singularity(fit)
    if singular:
        yield SingularFitWarning, singular_message(singular)


def rank_message(gone: Sequence[str], p: int) -> str:
    """Which columns were dropped."""
    one = len(gone) == 1
    return (
        f"{len(gone)} of {p} columns in the fixed part ({', '.join(gone)}) "
        f"{'depends' if one else 'depend'} on earlier ones and {'was' if one else 'were'} dropped: "
        "NaN in the tables. Leave out of the formula what cannot be told apart."
    )


def convergence_message(fit: Fit) -> str:
    """Why a fit may not be called converged."""
    certificate = fit.optimum.certificate
    return (
        f"The fit is {fit.optimum.outcome.value} ({count(fit.optimum.evaluations, 'evaluation')}, "
        f"score {abs(certificate.score_norm):.1e} standard errors, smallest curvature "
        f"{certificate.curvature:.2g}). Look at fit.optimum.log; go on with start=fit.theta."
    )


def boundless_message(fit: Fit) -> str:
    """What to say when random effects of any size reproduce the response; empty when they do not."""
    T = tuple(FREE * np.eye(len(t)) for t in fit.solution.T)
    r2 = fit.problem.solve(fit.model.theta(T)).r2
    if not r2 <= NOTHING * float(fit.gram.XytXy[-1, -1]):
        return ""
    return (
        f"The random effects reproduce all {fit.n} values of '{fit.spec.response}' exactly: the "
        "residual variance tends to zero and the likelihood has no maximum. Check whether the "
        "response varies within the levels of the grouping factors."
    )


def singular_message(phrases: Sequence[str]) -> str:
    """Which combination of random effects has no variance."""
    return (
        f"The fit is singular: in {'; in '.join(phrases)}. This is the optimum, on the boundary of "
        "the parameters; diagnose() compares simpler models."
    )
