"""Columns of X that depend on each other, or are badly scaled: variance inflation and condition indices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.estimates import names
from sparselmm.fit import Fit


def kept_names(fit: Fit) -> list[str]:
    """Names of the kept columns of X, shape (p,)."""
    return [names(fit)[i] for i in fit.kept]


def kept_terms(fit: Fit) -> dict[str, list[int]]:
    """Kept columns of every term of the fixed part but the intercept, as places among the kept."""
    place = {column: k for k, column in enumerate(fit.kept.tolist())}
    terms = {
        term: [place[c] for c in columns if c in place]
        for term, columns in fit.spec.fixed_terms.items()
        if term != "1"
    }
    return {term: columns for term, columns in terms.items() if columns}


def vif(fit: Fit) -> pd.DataFrame:
    """Variance inflation of every term of the fixed part.

    Returns
    -------
    pandas.DataFrame
        Indexed by term: ``gvif``, its ``df``, and ``vif`` = gvif^(1/df), which compares between
        terms of several columns and is the variance inflation factor for one.

    Raises
    ------
    InferenceError
        With fewer than two terms.

    Notes
    -----
    GVIF = |R_11| |R_22| / |R| of the correlation matrix R of the estimates, intercept left out
    (Fox & Monette 1992, Journal of the American Statistical Association 87, 178-183).

    Examples
    --------
    >>> import sparselmm as slm
    >>> cake = slm.load_dataset("cake")
    >>> fit = slm.lmm("angle ~ recipe * temp + (1 | recipe:replicate)", cake)
    >>> fit.vif().round(1)
                  gvif  df   vif
    recipe       133.4   2  11.6
    temp           3.0   1   3.0
    recipe:temp  156.5   2  12.5
    """
    terms = kept_terms(fit)
    if len(terms) < 2:
        raise InferenceError(
            f"Found {len(terms)} term{'s' * (len(terms) != 1)} besides the intercept; variance "
            "inflation is a matter of two or more."
        )
    used = [c for columns in terms.values() for c in columns]
    V = fit.cov_beta[np.ix_(used, used)]
    scale = np.sqrt(np.diag(V))
    R = V / np.outer(scale, scale)
    rows, at = {}, 0
    for term, columns in terms.items():
        own = np.zeros(len(used), bool)
        own[at : at + len(columns)] = True
        at += len(columns)
        logs = [np.linalg.slogdet(m)[1] for m in (R[own][:, own], R[~own][:, ~own], R)]
        gvif = np.exp(logs[0] + logs[1] - logs[2])
        rows[term] = {"gvif": gvif, "df": len(columns), "vif": gvif ** (1.0 / len(columns))}
    return pd.DataFrame.from_dict(rows, orient="index").astype({"df": int})


@dataclass(frozen=True, slots=True)
class Conditioning:
    """How well X determines its coefficients.

    Attributes
    ----------
    lengths : ndarray, shape (p,)
        Root mean squares of the kept columns.
    indices : ndarray, shape (p,)
        Condition indices, largest last, of the columns scaled to unit length.
    directions : ndarray, shape (p, p)
        Combinations of the scaled columns (columns of this matrix) that go with them.
    proportions : ndarray, shape (p, p)
        Share of every direction (column) in the variance of every coefficient (row).
    """

    lengths: Array
    indices: Array
    directions: Array
    proportions: Array


def conditioning(fit: Fit) -> Conditioning:
    """Scaled condition indices and variance proportions of X'WX.

    Notes
    -----
    Belsley, Kuh & Welsch (1980), Regression Diagnostics, section 3.2; taken from the cross-products.
    """
    p, basis = fit.p, fit.gram.basis
    XtX = basis.Rx.T @ fit.gram.XytXy[:p, :p] @ basis.Rx
    total = float(fit.n) if fit.design.weights is None else float(fit.design.weights.sum())
    scale = np.sqrt(np.diag(XtX))
    values, vectors = np.linalg.eigh(XtX / np.outer(scale, scale))
    values = np.maximum(values, np.finfo(float).tiny)
    shares = vectors**2 / values
    order = slice(None, None, -1)
    return Conditioning(
        scale / np.sqrt(total),
        np.sqrt(values[-1] / values)[order],
        vectors[:, order],
        (shares / shares.sum(axis=1, keepdims=True))[:, order],
    )
