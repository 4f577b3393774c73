"""Fixed effects after whole groups of rows are deleted, theta held: downdating, no refits.

Deleting the rows I is adding a column of their own for each; with P the projection matrix of the model, r_i and H as
in `sparselmm.joint`, and e the conditional residuals,

    beta - beta_(I) = M^-1 R_I'W_I d,      d = (I - H_II)^-1 e_I,      H_II = W^1/2 K_I C^-1 K_I' W^1/2 (leverages)

so that a group of n_I rows costs n_I solves and a system of order n_I. Where the groups share no random effect
(they are the connected components of the design) M is a sum over groups, and sums of p x p matrices are enough:

    beta - beta_(g) = (M - M_g)^-1 sum_{i in g} w_i r_i (y_i - x_i'beta),     M_g = sum_{i in g} w_i x_i r_i'

References: Haslett & Dillane (2004), JRSS B 66, 131-143; Christensen, Pearson & Johnson (1992), Technometrics 34,
38-45.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit
from sparselmm.joint import DesignRows, JointRows, data_rows, design_rows, threads
from sparselmm.kernels.crosstab import counting_sort, level_sums
from sparselmm.linalg import solve_lower, solve_lower_transposed
from sparselmm.rows import fixed_part, scaled_residuals
from sparselmm.systems.blocks import component_labels
from sparselmm.systems.forms import BLOCK_BYTES, partner_rows
from sparselmm.threads import limited_threads

MOST_FLOPS = 5e13  # about a quarter of an hour
DEFICIENT = 1e-9  # share of X'WX in its weakest direction that must be left


@dataclass(frozen=True, slots=True)
class Deleted:
    """Changes of the fixed effects, internal coordinates.

    Attributes
    ----------
    change : ndarray, shape (m, p)
        beta - beta_(I); NaN where the other rows cannot estimate beta.
    """

    change: Array

    def cooks(self, fit: Fit) -> Array:
        """Change' M change / (p sigma2), shape (m,)."""
        half = self.change @ fit.solution.L_M
        return (half**2).sum(axis=1) / (fit.p * fit.sigma2)


def weights_of(fit: Fit) -> Array:
    """Prior weights, ones where there are none, shape (n,)."""
    weights = fit.design.weights
    return np.ones(fit.n) if weights is None else weights


def delete_rows(fit: Fit, joint: JointRows | None = None) -> Deleted:
    """Every row on its own: M^-1 r w e / (1 - hat), O(n p²)."""
    joint = data_rows(fit) if joint is None else joint
    w = weights_of(fit)
    e = scaled_residuals(fit) * np.sqrt(fit.sigma2 * w)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = e / (1.0 - w * joint.forms)
    return Deleted(_fixed_change(fit, joint.R.T * np.where(np.isfinite(factor), factor, np.nan)))


def _fixed_change(fit: Fit, columns: Array) -> Array:
    """M^-1 of columns, as rows."""
    L = fit.solution.L_M
    return solve_lower_transposed(L, solve_lower(L, np.asfortranarray(columns))).T


def delete_groups(fit: Fit, codes: Array, n_groups: int) -> Deleted:
    """Every group of rows on its own.

    Parameters
    ----------
    fit : Fit
    codes : ndarray of int32, shape (n,)
    n_groups : int

    Raises
    ------
    InferenceError
        Where the groups share random effects and are so many or so large that it would take long.
    """
    regular = _leaves_rank(fit, codes, n_groups)
    if is_components(fit, codes, n_groups):
        change = _by_sums(fit, codes, n_groups, regular)
    else:
        change = _by_rows(fit, codes, n_groups, regular)
    change[~regular] = np.nan
    return Deleted(change)


def _leaves_rank(fit: Fit, codes: Array, n_groups: int) -> Array:
    """Whether the rows outside of each group determine beta, shape (n_groups,)."""
    X = fit.gram.basis.fixed(fit.design.X)
    total = fit.gram.XytXy[: fit.p, : fit.p]
    left = total - level_sums(codes, X * weights_of(fit)[:, None], X, n_groups)
    weakest = np.linalg.eigvalsh(left)[:, 0] if fit.p else np.ones(n_groups)
    return weakest > DEFICIENT * np.trace(total) / max(fit.p, 1)


def is_components(fit: Fit, codes: Array, n_groups: int) -> bool:
    """Whether no random effect reaches across groups."""
    lead = fit.prepared.system.leading
    if not lead.n_S:
        own, levels = fit.design.factors[0].codes, fit.gram.shapes[0][0]
    else:
        factor = fit.design.factors[lead.rest[0]]
        labels = component_labels(lead)
        own, levels = labels[:: factor.Q.shape[1]][factor.codes], int(labels.max()) + 1
    if levels < n_groups:
        return False
    group = np.zeros(levels, codes.dtype)
    group[own] = codes
    return bool((group[own] == codes).all())


def _by_sums(fit: Fit, codes: Array, n_groups: int, regular: Array) -> Array:
    """The module's second formula."""
    rows = design_rows(fit)
    w = weights_of(fit)[:, None]
    X = fit.gram.basis.fixed(fit.design.X)
    residual = (fit.design.y - fixed_part(fit))[:, None]
    own = level_sums(codes, rows.R * w, np.hstack([X, residual]), n_groups)
    M = fit.solution.L_M @ fit.solution.L_M.T
    left = M - own[:, :, :-1]
    left[~regular] = np.eye(fit.p)
    return np.linalg.solve(left, own[:, :, -1:])[:, :, 0]


def _by_rows(fit: Fit, codes: Array, n_groups: int, regular: Array) -> Array:
    """The module's first formula, groups of similar size at a time."""
    counts = np.bincount(codes, minlength=n_groups)
    n_S = fit.prepared.system.leading.n_S
    _check_cost(fit, counts.astype(float), n_S)
    pointers, order = counting_sort(codes, np.arange(fit.n, dtype=np.int64), n_groups)
    root = np.sqrt(weights_of(fit))
    rows = design_rows(fit)
    d = np.zeros(fit.n)
    e = scaled_residuals(fit) * np.sqrt(fit.sigma2)
    by_size = np.argsort(counts, kind="stable")
    by_size = by_size[regular[by_size]]
    with limited_threads(threads(fit, fit.n)):
        for groups in _batches(by_size, counts, n_S):
            slots = np.arange(int(counts[groups[-1]]))
            filled = slots < counts[groups][:, None]
            which = order[np.where(filled, pointers[groups][:, None] + slots, 0)]
            scale = np.where(filled, root[which], 0.0)
            d[which[filled]] = _deletion_residuals(fit, rows.take(which.ravel()), scale, e[which])[
                filled
            ]
    sums = level_sums(codes, rows.R * root[:, None], d[:, None], n_groups)
    return _fixed_change(fit, sums[:, :, 0].T)


def _deletion_residuals(fit: Fit, rows: DesignRows, scale: Array, e: Array) -> Array:
    """(I - H_gg)^-1 e_g for groups of rows side by side, shape (groups, size).

    `scale` holds the roots of the weights, zero where a group is smaller than the others.
    """
    shape = scale.shape
    levels, W, t, solved = partner_rows(fit.factored(), rows.z)
    half = solve_lower(fit.solution.L_M, np.asfortranarray(rows.R.T)).T
    levels, W, t, solved, half = (
        a.reshape(*shape, *a.shape[1:]) for a in (levels, W, t, solved, half)
    )
    H = half @ half.transpose(0, 2, 1) + t @ solved.transpose(0, 2, 1)
    H += np.where(levels[:, :, None] == levels[:, None, :], W @ W.transpose(0, 2, 1), 0.0)
    H *= scale[:, :, None] * scale[:, None, :]
    e = np.where(scale > 0.0, e, 0.0)
    return np.linalg.solve(np.eye(shape[1]) - H, e[:, :, None])[:, :, 0]


def _batches(by_size: Array, counts: Array, n_S: int) -> Iterator[Array]:
    """Runs of groups, smallest first, whose right-hand sides and systems fit in one block."""
    at = 0
    while at < len(by_size):
        sizes = np.maximum.accumulate(counts[by_size[at:]]).astype(float)
        nbytes = 8.0 * np.arange(1, len(sizes) + 1) * sizes * (2.0 * n_S + 3.0 * sizes)
        length = max(1, int(np.searchsorted(nbytes, BLOCK_BYTES)))
        yield by_size[at : at + length]
        at += length


def _check_cost(fit: Fit, counts: Array, n_S: int) -> None:
    """Refuse what would take long."""
    n = float(fit.n)
    flops = 2.0 * n * n_S**2 + 2.0 * n_S * (counts**2).sum() + (counts**3).sum() / 3.0
    if fit.prepared.choice.name != "crossed":
        flops -= 2.0 * n * n_S**2
    if flops > MOST_FLOPS:
        raise InferenceError(
            f"Deleting {len(counts):,} groups of up to {int(counts.max()):,} rows that share random effects "
            f"would take about {flops:.0e} operations; expected at most {MOST_FLOPS:.0e}. Delete rows "
            "(by=None), or group by a factor whose levels share no random effect with each other."
        )
