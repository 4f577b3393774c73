"""The certificate: what the last evaluation shows about the optimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.linalg import TINY
from sparselmm.steps import Local, Step


@dataclass(frozen=True, slots=True)
class Certificate:
    """Why a fit may be called converged.

    Attributes
    ----------
    gain : float
        Fall of the deviance that another step promises.
    score_norm : float
        Root of twice that: how far, in standard errors, the optimum may still be.
    curvature : float
        Smallest eigenvalue of the Hessian (exact, or average information, curvature of T T' and what
        the scores along the way taught), as a share of the largest.
    on_boundary : tuple of int
        Entries of theta (pivots) that are zero; the score pushes each of them down.
    passed : bool
    """

    gain: float
    score_norm: float
    curvature: float
    on_boundary: tuple[int, ...]
    passed: bool


def certify(
    local: Local, step: Step | None, zero: Array, largest_score: float, *, plateau: bool = False
) -> Certificate:
    """What the last evaluation, and what was learned on the way, say about the optimum.

    On a plateau only a zero pivot, and a deviance that does not bend downwards at all, explain the score that is left.
    """
    gain = np.inf if step is None else step.gain
    curvature = float(local.values[0] / max(abs(local.values[-1]), TINY))
    norm = float(np.sqrt(2.0 * abs(gain)))  # a step that promises a rise certifies nothing
    passed = curvature > -1e-6 and norm < largest_score
    passed = passed and (not plateau or (len(zero) > 0 and curvature >= 0.0))
    return Certificate(gain, norm, curvature, tuple(map(int, zero)), passed)
