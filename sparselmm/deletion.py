"""Fixed effects after whole groups of rows are deleted, theta held: downdating, no refits.

Deleting the rows I is adding a column of their own for each; with P the projection matrix of the model, r_i and H as
in `sparselmm.joint`, and e the conditional residuals,

    beta - beta_(I) = M^-1 R_I'W_I d,      d = (I - H_II)^-1 e_I,      H_II = W^1/2 K_I C^-1 K_I' W^1/2 (leverages)

so that a group of n_I rows costs n_I solves and a system of order n_I; no solves where it lies within one level of
the leading factor, as S^-1 is then read where one score needs it. A few large groups are left out of the
cross-products instead, one factorisation each at the same theta. Where the groups share no random effect
(they are the connected components of the design) M is a sum over groups, and sums of p x p matrices are enough:

    beta - beta_(g) = (M - M_g)^-1 sum_{i in g} w_i r_i (y_i - x_i'beta),     M_g = sum_{i in g} w_i x_i r_i'

References: Haslett & Dillane (2004), JRSS B 66, 131-143; Christensen, Pearson & Johnson (1992), Technometrics 34,
38-45.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sparselmm._types import Array, Design
from sparselmm.criterion import solve_at
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit
from sparselmm.gram import Gram
from sparselmm.joint import DesignRows, JointRows, data_rows, design_rows, threads
from sparselmm.kernels.crosstab import counting_sort, level_sums
from sparselmm.linalg import solve_lower, solve_lower_transposed
from sparselmm.rows import fixed_part, scaled_residuals
from sparselmm.systems.blocks import component_labels
from sparselmm.systems.choose import choose
from sparselmm.systems.forms import BLOCK_BYTES, level_forms, partner_rows
from sparselmm.threads import limited_threads

MOST_FLOPS = 2e13  # some minutes
ROW_COST, GROUP_COST = (
    1e3,
    1e7,
)  # operations that take as long as a row, and as a group, of products
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
        counts = np.bincount(codes, minlength=n_groups).astype(float)
        by_rows, by_products = _row_cost(fit, codes, counts), _product_cost(fit, n_groups)
        _check_cost(counts, min(by_rows, by_products))
        few = by_products < by_rows
        change = (_by_products if few else _by_rows)(fit, codes, n_groups, regular)
    change[~regular] = np.nan
    return Deleted(change)


def _row_cost(fit: Fit, codes: Array, counts: Array) -> float:
    """Operations of `_by_rows`."""
    lead = fit.prepared.system.leading
    if _reads(fit, codes, len(counts)):
        return float(20.0 * (counts**2).sum() + (counts**3).sum() / 3.0)
    solves = 2.0 * fit.n * lead.n_S**2 if fit.prepared.choice.name == "crossed" else 0.0
    return float(2.0 * lead.n_S * (counts**2).sum() + (counts**3).sum() / 3.0 + solves)


def _product_cost(fit: Fit, n_groups: int) -> float:
    """Operations of `_by_products`."""
    return n_groups * (fit.prepared.choice.cost.flops + ROW_COST * fit.n + GROUP_COST)


def _check_cost(counts: Array, flops: float) -> None:
    """Refuse what would take long."""
    if flops > MOST_FLOPS:
        raise InferenceError(
            f"Deleting {len(counts):,} groups of up to {int(counts.max()):,} rows that share random effects "
            f"would take about {flops:.0e} operations; expected at most {MOST_FLOPS:.0e}. Delete rows "
            "(by=None), or group by the factor with most levels, or by one whose levels share nothing."
        )


def _by_products(fit: Fit, codes: Array, n_groups: int, regular: Array) -> Array:
    """The estimates at theta from the cross-products of the other rows: for few, large groups."""
    design, gram = fit.design, fit.gram
    change = np.zeros((n_groups, fit.p))
    with limited_threads(threads(fit, fit.n)):
        for group in np.flatnonzero(regular):
            keep = np.flatnonzero(codes != group)
            left = Gram.from_design(design_of(design, keep), fit.spec.terms, gram.basis)
            system = choose(left, fit.prepared.choice.name).system
            at = solve_at(left, system, fit.solution.T, reml=fit.reml)
            change[group] = fit.solution.beta - at.beta
    return change


def design_of(design: Design, rows: Array) -> Design:
    """Some rows of a design, with all levels."""
    factors = tuple(
        replace(f, codes=f.codes[rows], Q=np.ascontiguousarray(f.Q[rows])) for f in design.factors
    )
    return Design(
        design.y[rows],
        np.ascontiguousarray(design.X[rows]),
        factors,
        None if design.weights is None else design.weights[rows],
        None if design.offset is None else design.offset[rows],
    )


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
    rows = design_rows(fit)
    counts = np.bincount(codes, minlength=n_groups)
    with limited_threads(threads(fit, fit.n)):
        forms, width = _forms(fit, rows, codes, counts)
        d = _deletion_residuals(fit, rows, forms, width, codes, counts, regular)
    sums = level_sums(codes, rows.R * np.sqrt(weights_of(fit))[:, None], d[:, None], len(counts))
    return _fixed_change(fit, sums[:, :, 0].T)


def _forms(
    fit: Fit, rows: DesignRows, codes: Array, counts: Array
) -> tuple[Callable[[Array], Array], int]:
    """z_i'A^-1 z_j within groups of rows (groups, size), and numbers kept per row while at it.

    Groups inside levels of the leading factor read S^-1; others are solved for.
    """
    factored = fit.factored()
    if _reads(fit, codes, len(counts)):
        return level_forms(factored, rows.z).among, 0

    def solved(which: Array) -> Array:
        pieces = partner_rows(factored, rows.z.take(which.ravel()))
        levels, W, t, x = (a.reshape(*which.shape, *a.shape[1:]) for a in pieces)
        same = levels[:, :, None] == levels[:, None, :]
        return t @ x.transpose(0, 2, 1) + np.where(same, W @ W.transpose(0, 2, 1), 0.0)

    return solved, 2 * factored.leading.n_S


def _reads(fit: Fit, codes: Array, n_groups: int) -> bool:
    """Whether every group of rows lies within one level of the leading factor."""
    lead = fit.prepared.system.leading
    if not lead.n_S:
        return False
    levels = fit.design.factors[lead.index].codes
    level = np.zeros(n_groups, levels.dtype)
    level[codes] = levels
    return bool((level[codes] == levels).all())


def _deletion_residuals(
    fit: Fit,
    rows: DesignRows,
    forms: Callable[[Array], Array],
    width: int,
    codes: Array,
    counts: Array,
    regular: Array,
) -> Array:
    """(I - H_gg)^-1 e_g of every group, weights' roots multiplied in, shape (n,)."""
    pointers, order = counting_sort(codes, np.arange(fit.n, dtype=np.int64), len(counts))
    half = solve_lower(fit.solution.L_M, np.asfortranarray(rows.R.T)).T
    root, e = np.sqrt(weights_of(fit)), scaled_residuals(fit) * np.sqrt(fit.sigma2)
    d = np.zeros(fit.n)
    by_size = np.argsort(counts, kind="stable")
    for groups in _batches(by_size[regular[by_size]], counts, width):
        slots = np.arange(int(counts[groups[-1]]))
        filled = slots < counts[groups][:, None]
        which = order[pointers[groups][:, None] + np.where(filled, slots, 0)]
        scale = np.where(filled, root[which], 0.0)
        H = forms(which) + half[which] @ half[which].transpose(0, 2, 1)
        K = np.eye(len(slots)) - scale[:, :, None] * H * scale[:, None, :]
        own = np.where(filled, e[which], 0.0)
        d[which[filled]] = np.linalg.solve(K, own[:, :, None])[:, :, 0][filled]
    return d


def _batches(by_size: Array, counts: Array, width: int) -> Iterator[Array]:
    """Runs of groups, smallest first, whose rows and systems fit in one block."""
    at = 0
    while at < len(by_size):
        sizes = counts[by_size[at:]].astype(float)
        nbytes = 8.0 * np.arange(1, len(sizes) + 1) * sizes * (width + 4.0 * sizes)
        length = max(1, int(np.searchsorted(nbytes, BLOCK_BYTES)))
        yield by_size[at : at + length]
        at += length
