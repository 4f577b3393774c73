"""The end of an optimisation: where it stopped, why, and every point it tried."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from sparselmm._types import Array
from sparselmm.certificate import Certificate
from sparselmm.criterion import Solution


class Outcome(Enum):
    """How an optimisation ended; the value is what the user reads."""

    CONVERGED = "converged"
    SINGULAR = "converged to a singular fit: some variance is zero or some correlation is 1 or -1"
    MAX_EVALUATIONS = (
        "not converged: stopped at the largest number of evaluations; raise options.max_evaluations"
    )
    STALLED = "not converged: no step lowers the deviance, yet the score is not zero"
    INTERRUPTED = "interrupted: the last iterate is kept"

    @property
    def converged(self) -> bool:
        """Whether the certificate was passed."""
        return self in (Outcome.CONVERGED, Outcome.SINGULAR)


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation in the log.

    Attributes
    ----------
    theta : ndarray, shape (n_theta,)
        Internal coordinates.
    deviance : float
    score_norm : float
        Length of the score in standard errors; NaN where only the value was computed.
    step : str
        ``"start"``, ``"newton"``, ``"edge"`` (of the trust region), ``"beside"`` (without another factorisation),
        ``"closing"`` or ``"boundary"``.
    """

    theta: Array
    deviance: float
    score_norm: float
    step: str


@dataclass(frozen=True, slots=True)
class Optimum:
    """The end of an optimisation.

    Attributes
    ----------
    theta : ndarray, shape (n_theta,)
        Internal coordinates.
    solution : Solution
    outcome : Outcome
    certificate : Certificate
    log : tuple of Entry
    E : tuple of ndarray, shape (s_j, s_j), or None
        Score matrices at theta, where they were computed (not after a closing step).
    """

    theta: Array
    solution: Solution = field(repr=False)
    outcome: Outcome
    certificate: Certificate
    log: tuple[Entry, ...] = field(repr=False)
    E: tuple[Array, ...] | None = field(repr=False, default=None)

    @property
    def converged(self) -> bool:
        """Whether the certificate was passed."""
        return self.outcome.converged

    @property
    def evaluations(self) -> int:
        """Evaluations of the score."""
        return sum(1 for entry in self.log if np.isfinite(entry.score_norm))
