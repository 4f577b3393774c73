"""In which order the columns of a dense S are eliminated: a sparse head by supernodes, then a dense core.

Levels that few others meet, eliminated first, fill little of S: on designs whose S is filled by a tenth to a third,
this saves most of the arithmetic that a dense factorisation and its inverse spend on zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import bitsets, supernodes
from sparselmm.kernels.crosstab import counting_sort
from sparselmm.systems.leading import Leading

LARGEST = 6_000  # order of S up to which a head is looked for
MOST_WORDS = 2e8  # of bitsets to be joined while looking
SAMPLE = 64  # columns that tell how full S is
FULLEST = 0.5  # share of S up to which a head can pay
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
    begin, pointers, rows : ndarray of int64
        Supernodes of the head and the rows below them (see `sparselmm.kernels.head`).
    widest, tallest : int
        Columns and rows below of the largest supernodes.
    tasks : tuple of ndarray of int64
        Supernodes, ancestors first: those at the top of the tree, then subtrees that do not need each other.
    entries : float
        Of the factor.
    flops : float
        Multiplications and additions of one factorisation and inverse.
    """

    order: Array
    n_head: int
    begin: Array
    pointers: Array
    rows: Array
    widest: int
    tallest: int
    tasks: tuple[Array, ...]
    entries: float
    flops: float

    @property
    def supernodes(self) -> tuple[Array, Array, Array, int]:
        """Arguments of the head's kernels."""
        return self.begin, self.pointers, self.rows, self.widest

    def panels(self) -> Array:
        """Room for the head's factor."""
        return np.empty((self.n_head, self.widest + self.tallest))


def plan_elimination(lead: Leading) -> Elimination | None:
    """The order of a design, or None where S may as well be taken as dense."""
    n = lead.n_S
    if n > LARGEST or len(lead.cols) * n > 64 * MOST_WORDS:
        return None
    pattern = bitsets.joint_pattern(lead.indptr, lead.cols, lead.A22_ptr, lead.A22_cols)
    some = pattern[:: n // SAMPLE + 1]
    if np.unpackbits(some.view(np.uint8)).sum() > FULLEST * n * len(some):
        return None
    order, n_head = bitsets.eliminate_smallest(pattern, FULL)
    order, parent, entries = _by_subtrees(pattern, order, n_head)
    begin = (
        supernodes.merge_supernodes(parent, entries, SLACK, NARROW) if n_head else np.zeros(1, int)
    )
    pointers, below = bitsets.rows_below(pattern, order[begin[1:] - 1])
    width, height = np.diff(begin), np.diff(pointers)
    work = _flops(width, height)
    flops = float(work.sum()) + float(n - n_head) ** 3
    if flops > WORTH * n**3:
        return None
    places = np.argsort(order)[below].astype(np.int32)
    owner = np.repeat(np.arange(len(height), dtype=np.int32), height)
    _, by_place = counting_sort(places, np.arange(len(places)), n)
    _, by_owner = counting_sort(owner, by_place, len(height))
    rows = places[by_owner].astype(np.int64)
    up = supernodes.supernode_tree(begin, parent, supernodes.column_owners(begin))
    tree, bounds = supernodes.independent_tasks(up, work, SHARE)
    tasks = tuple(np.split(tree, bounds)[:-1])
    widest, tallest = int(width.max(initial=0)), int(height.max(initial=0))
    held = float((width * (height + 0.5 * width)).sum()) + 0.5 * float(n - n_head) ** 2
    return Elimination(order, n_head, begin, pointers, rows, widest, tallest, tasks, held, flops)


def _by_subtrees(pattern: Array, order: Array, n_head: int) -> tuple[Array, Array, Array]:
    """The head's columns subtree by subtree, with parents and entries in that order."""
    parent, entries = bitsets.elimination_tree(pattern, order, np.argsort(order), n_head)
    after = supernodes.postorder(parent)
    up = parent[after]
    parent = np.where(up >= 0, np.argsort(after)[up], -1)
    return np.concatenate([order[:n_head][after], order[n_head:]]), parent, entries[after]


def _flops(width: Array, height: Array) -> Array:
    """Of every supernode: two products with the rows below it, and what its own triangle takes."""
    w, r = width.astype(float), height.astype(float)
    return w * (3.0 * r**2 + 3.0 * w * r + w**2)
