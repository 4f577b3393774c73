"""Cluster-robust covariance of the fixed effects: right also where the model of the covariance is wrong.

With g_i = w_i r_i the rows of H^-1X (`sparselmm.joint`) and e = y - X beta, sums over the rows of cluster c

    s_c = sum g_i e_i          K_c = sum x_i g_i'          M = sum_c K_c = X'H^-1X

    CR0    M^-1 (sum_c s_c s_c') M^-1
    CR1    CR0 times m / (m - 1), m clusters
    CR2    s_c -> M^(1/2) (I - M^(-1/2) K_c M^(-1/2))^(-1/2) M^(-1/2) s_c: unbiased if the model is right
    CR3    s_c -> (I - K_c M^-1)^-1 s_c: nearly the jackknife

CR2 and CR3 need clusters that share no random effect. Then they are s_c = X_c'H_c^-1 A_c e_c with

    CR2   A_c (H_c - X_c M^-1 X_c') A_c' = H_c          CR3   A_c = (I - X_c M^-1 X_c' H_c^-1)^-1

and p x p matrices are enough. CR2's A_c is the symmetric root in the coordinates in which H_c is the identity, which
does not depend on the order of the rows (Bell & McCaffrey 2002, Survey Methodology 28, 169-181). Pustejovsky & Tipton
(2018, J. Bus. Econ. Stat. 36, 672-683) take another root of the same equation: standard errors differ by parts of a
percent, and not at all without random effects.

Several ways: the sum over non-empty sets of ways of (-1)^(size + 1) times the covariance clustered by their
intersection, negative eigenvalues set to zero (Cameron, Gelbach & Miller 2011, J. Bus. Econ. Stat. 29, 238-249).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.deletion import is_components, weights_of
from sparselmm.errors import InferenceError
from sparselmm.estimates import names
from sparselmm.fit import Fit
from sparselmm.joint import design_rows
from sparselmm.kernels.crosstab import level_sums
from sparselmm.rows import fixed_part, row_index

KINDS = ("CR0", "CR1", "CR2", "CR3")
FULL = 1e-8  # share of beta's information outside of a cluster below which the cluster alone determines it


def cov_robust(fit: Fit, clusters: Any, kind: str = "CR1") -> pd.DataFrame:
    """Covariance of the fixed effects that allows for any dependence within clusters.

    Parameters
    ----------
    clusters : str, array or Series of length n, or list of these
        Name of a grouping factor of the model, or one label per row used; a Series may hold more
        rows and is matched by its index. A list asks for clustering in several ways.
    kind : str
        ``"CR0"``, ``"CR1"`` (times m / (m - 1)), or, for one way and clusters that share no random
        effect, ``"CR2"`` (unbiased if the model is right) and ``"CR3"`` (nearly the jackknife).

    Returns
    -------
    pandas.DataFrame, shape (p, p)
        NaN for dropped columns.

    Raises
    ------
    InferenceError
        For an unknown kind or factor, labels of the wrong length or missing, fewer than two
        clusters, and CR2 or CR3 where they do not apply.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (1 | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.cov_robust("Subject").round(3)
               Intercept   Days
    Intercept     46.575 -1.451
    Days          -1.451  2.389
    """
    if kind not in KINDS:
        raise InferenceError(f"Found kind={kind!r}; expected one of {', '.join(map(repr, KINDS))}.")
    ways = [_codes(fit, c) for c in (clusters if isinstance(clusters, list) else [clusters])]
    full = np.full((len(fit.spec.column_names),) * 2, np.nan)
    full[np.ix_(fit.kept, fit.kept)] = robust_covariance(fit, ways, kind)
    return pd.DataFrame(full, index=names(fit), columns=names(fit))


def robust_covariance(fit: Fit, ways: list[Array], kind: str) -> Array:
    """Cluster-robust covariance of the kept fixed effects, user's coordinates, shape (p, p).

    Parameters
    ----------
    ways : list of ndarray of int, shape (n,)
        Clusters of the rows, numbered from zero without gaps.
    kind : str
    """
    if len(ways) > 1 and kind in ("CR2", "CR3"):
        raise InferenceError(
            f"Found kind={kind!r} with {len(ways)} ways; it is defined for one. Use kind='CR1'."
        )
    rows = design_rows(fit)
    G = rows.R * weights_of(fit)[:, None]
    residual = (fit.design.y - fixed_part(fit))[:, None]
    meat = np.zeros((fit.p, fit.p))
    for size in range(1, len(ways) + 1):
        for chosen in combinations(ways, size):
            codes = _intersection(chosen)
            m = int(codes.max()) + 1
            scores = level_sums(codes, G, residual, m)[:, :, 0]
            if kind in ("CR2", "CR3"):
                scores = _adjusted(fit, codes, G, scores, kind)
            scale = m / (m - 1.0) if kind == "CR1" else 1.0
            meat += (-1.0) ** (size + 1) * scale * scores.T @ scores
    M_inverse = np.linalg.inv(fit.solution.L_M @ fit.solution.L_M.T)
    V = fit.gram.basis.cov_beta(M_inverse @ meat @ M_inverse)
    return positive_part(V) if len(ways) > 1 else 0.5 * (V + V.T)


def _adjusted(fit: Fit, codes: Array, G: Array, scores: Array, kind: str) -> Array:
    """Scores of the clusters, corrected for the share of each in the estimates."""
    if not is_components(fit, codes, len(scores)):
        raise InferenceError(
            f"Found clusters that share random effects; kind={kind!r} expects every level of every "
            "grouping factor within one cluster. Use kind='CR1', or coarser clusters."
        )
    X = fit.gram.basis.fixed(fit.design.X)
    root = fit.solution.L_M
    half = np.linalg.solve(root, level_sums(codes, X, G, len(scores)))
    share = np.linalg.solve(root, half.transpose(0, 2, 1))
    values, vectors = np.linalg.eigh(0.5 * (share + share.transpose(0, 2, 1)))
    left = 1.0 - values
    if (left < FULL).any():
        alone = int((left < FULL).any(axis=1).sum())
        raise InferenceError(
            f"Found {alone} clusters without which some coefficient cannot be estimated; kind={kind!r} "
            "needs the others to estimate all of them. Use kind='CR1'."
        )
    whitened = np.linalg.solve(root, scores.T).T[:, :, None]
    power = -0.5 if kind == "CR2" else -1.0
    corrected = vectors @ (left[:, :, None] ** power * (vectors.transpose(0, 2, 1) @ whitened))
    return corrected[:, :, 0] @ root.T


def positive_part(V: Array) -> Array:
    """V with its negative eigenvalues set to zero, after scaling to unit diagonal."""
    scale = np.sqrt(np.maximum(np.abs(np.diag(V)), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(0.5 * (V + V.T) / np.outer(scale, scale))
    return (vectors * np.maximum(values, 0.0)) @ vectors.T * np.outer(scale, scale)


def _intersection(ways: tuple[Array, ...]) -> Array:
    """Clusters of rows that agree in all ways, numbered from zero."""
    codes = ways[0].astype(np.int64)
    for other in ways[1:]:
        codes = codes * (int(other.max()) + 1) + other
        codes = np.unique(codes, return_inverse=True)[1]
    return codes.astype(np.int32)


def _codes(fit: Fit, clusters: Any) -> Array:
    """Clusters of the rows used, numbered from zero."""
    if isinstance(clusters, str):
        if clusters not in fit.spec.factor_names:
            shown = ", ".join(map(repr, fit.spec.factor_names))
            raise InferenceError(
                f"Found clusters={clusters!r}, which is no grouping factor of the model ({shown}); "
                "pass one of them, or an array with one label per row."
            )
        return _checked(fit.design.factors[fit.spec.factor_names.index(clusters)].codes)
    if isinstance(clusters, pd.Series) and len(clusters) != fit.n:
        clusters = clusters.reindex(row_index(fit))
    labels = np.asarray(clusters)
    if labels.shape != (fit.n,):
        raise InferenceError(
            f"Found clusters of shape {labels.shape}; expected one label for each of the {fit.n:,} rows "
            "used (rows with missing values are not)."
        )
    codes, _ = pd.factorize(labels)
    if (codes < 0).any():
        raise InferenceError(
            f"Found {int((codes < 0).sum())} rows without a cluster; expected a label for every row."
        )
    return _checked(codes.astype(np.int32))


def _checked(codes: Array) -> Array:
    if codes.max() < 1:
        raise InferenceError("Found one cluster; expected at least two, better more than forty.")
    return codes
