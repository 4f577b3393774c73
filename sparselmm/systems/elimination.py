"""In which order the columns of a dense S are eliminated: a sparse head by supernodes, then a dense core.

Levels that few others meet, eliminated first, fill little of S: on designs whose S is filled by a tenth to a third,
this saves most of the arithmetic that a dense factorisation and its inverse spend on zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import bitsets, sparse_schur, supernodes
from sparselmm.systems.leading import Leading

LARGEST = 6_000  # order of S up to which a head is looked for
LEVELS_BYTES = 1 << 27  # of the bitsets of the leading levels
SAMPLE, FULLEST = 32, 0.5  # columns looked at first, and the share of S that they may fill
FULL = 0.6  # share of what is left that its emptiest column fills, from which on it is dense
SLACK, NARROW = 0.1, 8  # zeros that supernodes may hold (see `supernodes.merge_supernodes`)
SHARE = 0.1  # of the head's work in one subtree
WORTH = 0.6  # of the dense arithmetic, above which the head is left alone


@dataclass(frozen=True, slots=True)
class Elimination:
    """Order and supernodes.

    Attributes
    ----------
    order : ndarray of int64, shape (n_S,)
        Columns of S as they are eliminated.
    n_head : int
        How many of them come before the dense core.
    begin, pointers, rows, panel : ndarray of int64
        Supernodes of the head, the rows below them and where they are kept (see `sparselmm.kernels.head`).
    tasks : tuple of ndarray of int64
        Supernodes, ancestors first: those at the top of the tree, then subtrees that do not need each other.
    flops : float
        Multiplications and additions of one factorisation and inverse.
    """

    order: Array
    n_head: int
    begin: Array
    pointers: Array
    rows: Array
    panel: Array
    tasks: tuple[Array, ...]
    flops: float

    @property
    def supernodes(self) -> tuple[Array, Array, Array, Array]:
        """Arguments of the head's kernels."""
        return self.begin, self.pointers, self.rows, self.panel


def plan_elimination(lead: Leading) -> Elimination | None:
    """The order of a design, or None where S may as well be taken as dense."""
    n = lead.n_S
    too_many = (len(lead.indptr) - 1) * n > 8 * LEVELS_BYTES
    if n > LARGEST or too_many or _share(lead) > FULLEST:
        return None
    pattern = bitsets.joint_pattern(
        lead.indptr, lead.cols, lead.colptr, lead.rows, lead.A22_ptr, lead.A22_cols
    )
    order, n_head = bitsets.eliminate_smallest(pattern, FULL)
    parent, entries = bitsets.elimination_tree(pattern, order, n_head)
    after = supernodes.postorder(parent)
    order[:n_head], entries = order[:n_head][after], entries[after]
    up = parent[after]
    parent = np.where(up >= 0, np.argsort(after)[up], -1)
    begin = (
        supernodes.merge_supernodes(parent, entries, SLACK, NARROW) if n_head else np.zeros(1, int)
    )
    pointers, rows = bitsets.rows_below(pattern, order, begin)
    width, height = np.diff(begin), np.diff(pointers)
    work = _flops(width, height)
    flops = float(work.sum()) + float(n - n_head) ** 3
    if flops > WORTH * n**3:
        return None
    panel = np.concatenate([[0], np.cumsum(width * (width + height))])
    up = supernodes.supernode_tree(begin, parent, supernodes.column_owners(begin))
    tree, bounds = supernodes.independent_tasks(up, work, SHARE)
    tasks = tuple(np.split(tree, bounds)[:-1])
    return Elimination(order, n_head, begin, pointers, rows, panel, tasks, flops)


def _share(lead: Leading) -> float:
    """Of the lower triangle of S that partners fill, from some of its columns."""
    wanted = np.unique(np.linspace(0, lead.n_S - 1, SAMPLE).astype(np.int64))
    view = (lead.indptr, lead.cols, lead.colptr, lead.rows, lead.positions)
    nothing = np.zeros(lead.n_S + 1, np.int64), np.empty(0, np.int32)
    filled = sparse_schur.clique_counts(wanted, *view, *nothing)
    return float(filled.sum() / (lead.n_S - wanted).sum())


def _flops(width: Array, height: Array) -> Array:
    """Of every supernode: two products with the rows below it, and what its own triangle takes."""
    w, r = width.astype(float), height.astype(float)
    return w * (3.0 * r**2 + 3.0 * w * r + w**2)
