"""Standard errors of variances, standard deviations and correlations, by the delta method.

They come from the observed information (`sparselmm.information`) in (local coordinates of T, log sigma):

    d Cov_ab / d i = sigma² (dT_i T' + T dT_i')_ab        d Cov_ab / d log sigma = 2 Cov_ab

A variance of zero and a correlation of 1 or -1 lie on the boundary and get none: use profile intervals there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.fit import Fit
from sparselmm.information import Information, observed_information
from sparselmm.varcorr import TermCovariance, term_covariances, varcorr

PERFECT = 1e-6  # distance of a correlation from 1 at which it lies on the boundary


def varcorr_se(fit: Fit) -> pd.DataFrame:
    """Variance components with standard errors.

    Returns
    -------
    pandas.DataFrame
        The rows and columns of `varcorr` with ``se_vcov`` and ``se_sdcor``, the standard errors of
        ``vcov`` and ``sdcor``; NaN on the boundary (variance zero, correlation 1 or -1).

    Notes
    -----
    The sampling distribution of a variance is skewed unless it rests on many levels;
    `conf_int(method="profile")` does not assume that it is normal.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.varcorr_se()[["vcov", "se_vcov", "sdcor", "se_sdcor"]].round(2)
         vcov  se_vcov  sdcor  se_sdcor
    0  612.09   288.78  24.74      5.84
    1   35.07    14.78   5.92      1.25
    2    9.60    46.68   0.07      0.33
    3  654.94    77.19  25.59      1.51
    """
    information = observed_information(fit)
    slopes = []
    for index, term in enumerate(term_covariances(fit)):
        slopes += _term_slopes(fit, information, index, term)
    residual = np.zeros(len(information.covariance))
    residual[-1] = 2.0 * fit.sigma2
    slopes.append((residual, residual / (2.0 * np.sqrt(fit.sigma2))))
    frame = varcorr(fit)
    for name, rows in zip(("se_vcov", "se_sdcor"), zip(*slopes, strict=True), strict=True):
        frame[name] = _standard_errors(np.array(rows), information.covariance)
    return frame


def _standard_errors(slopes: Array, covariance: Array) -> Array:
    """Roots of g'Vg per row; NaN where the derivative is undefined."""
    return np.sqrt(np.einsum("im,mk,ik->i", slopes, covariance, slopes))


def _term_slopes(
    fit: Fit, information: Information, index: int, term: TermCovariance
) -> list[tuple[Array, Array]]:
    """Derivatives of every (covariance, standard deviation or correlation) of a term."""
    D = covariance_slopes(fit, information, index, term.covariance)
    variance = np.diag(term.covariance)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.array([D[:, a, a] / variance[a] for a in range(len(variance))])
    undefined = np.full(len(D), np.nan)
    out = []
    for a, sd in enumerate(term.sd):
        at_zero = variance[a] == 0.0
        out.append((undefined, undefined) if at_zero else (D[:, a, a], D[:, a, a] / (2.0 * sd)))
    for a, b in term.pairs:
        r = term.correlation[a, b]
        slope = D[:, a, b] / (term.sd[a] * term.sd[b]) - 0.5 * r * (relative[a] + relative[b])
        at_zero = variance[a] == 0.0 or variance[b] == 0.0
        out.append(
            (undefined if at_zero else D[:, a, b], slope if abs(r) < 1 - PERFECT else undefined)
        )
    return out


def covariance_slopes(fit: Fit, information: Information, index: int, covariance: Array) -> Array:
    """Derivatives of a term's covariance matrix, shape (m + 1, s, s), user's coordinates."""
    part = fit.model.parts[index]
    R = fit.gram.basis.Rq[part.factor][part.columns, part.columns]
    inverse = np.linalg.inv(R)
    moves = information.coordinates.moves
    D = np.zeros((len(moves) + 1, *covariance.shape))
    for i in range(len(moves)):
        factor, change = information.coordinates.change(i)
        if factor == part.factor:
            own = change[part.columns, part.columns]
            D[i] = fit.sigma2 * inverse @ own @ inverse.T
    D[-1] = 2.0 * covariance
    return D
