"""What the sparse path learns once from the patterns: entries of S, its order, its supernodes.

Everything is then kept in elimination order, so that a theta costs values only. The order is
found on the graph of the levels, whose columns stay together, and is expanded to columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from sparselmm._types import Array
from sparselmm.kernels import partners, sparse_schur, supernodes
from sparselmm.systems import cholmod
from sparselmm.systems.leading import Leading

__all__ = [
    "Panels",
    "Pattern",
    "SparseAnalysis",
    "SparsePlan",
    "estimate_entries",
    "plan_sparse",
]

# Another ordering is tried when one evaluation costs more flops than this per entry of S.
_WORTH_ORDERING = 3e3
_MERGE_SLACK, _MERGE_NARROW, _WIDEST = 0.1, 8, 128


@dataclass(frozen=True, slots=True)
class SparseAnalysis:
    """What a factorisation will cost, known before any number is computed.

    Attributes
    ----------
    ordering
        The fill-reducing method that won.
    n
        Order of S.
    entries, factor_entries
        Entries of the lower triangle of S and of its Cholesky factor.
    pair_updates
        Pairs of partners visited when S is gathered, and again for the partner forms.
    factor_flops, inverse_flops
        Multiplications and additions of the factorisation and of the selected inverse.
    bytes
        Peak memory of one factorisation with inverse, plan included.
    """

    ordering: str
    n: int
    entries: int
    factor_entries: int
    pair_updates: float
    factor_flops: float
    inverse_flops: float
    bytes: int

    @property
    def fill(self) -> float:
        """Share of the lower triangle of L that is held: 1 for a dense factor."""
        return self.factor_entries / (0.5 * self.n * (self.n + 1))


@dataclass(frozen=True, slots=True)
class Pattern:
    """S and the partners of the leading levels in elimination order; see `kernels.sparse_schur`.

    ``place`` (n_S,) tells where each column has gone, ``entry`` (nnz,) where each partner was,
    ``a22`` where the entries of A22 go; ``chunks`` are runs of columns of about equal work,
    ``pairs`` counts the pairs of partners.
    """

    place: Array
    ptr: Array
    ind: Array
    indptr: Array
    cols: Array
    entry: Array
    colptr: Array
    rows: Array
    pos: Array
    a22: Array
    chunks: Array
    pairs: float


@dataclass(frozen=True, slots=True)
class Panels:
    """Supernodes of the factor and the order of the selected inverse; see `kernels.selinv`.

    ``runs`` are runs of supernodes of about equal size; ``order, bounds`` the top of the tree
    and its independent subtrees.
    """

    begin: Array
    owner: Array
    rowptr: Array
    rows: Array
    panel: Array
    runs: Array
    order: Array
    bounds: Array


@dataclass(frozen=True, slots=True)
class SparsePlan:
    """All that the patterns determine: what it will cost, where everything goes."""

    analysis: SparseAnalysis
    pattern: Pattern
    panels: Panels
    symbolic: cholmod.Symbolic


def estimate_entries(lead: Leading, sample: int = 256) -> float:
    """Entries of the lower triangle of S, estimated from some of its columns.

    Costs ``sample / n_S`` of one gathering of S, needs no CHOLMOD, and is exact when ``sample``
    is at least the number of levels: a cheap look before `plan_sparse` is worth its memory.
    """
    graph = _level_graph(lead)
    n = len(graph.width)
    wanted = np.unique(np.linspace(0, n - 1, min(sample, n)).astype(np.int64))
    counts = sparse_schur.clique_counts(wanted, *graph.arrays)
    block = graph.width[wanted] * graph.width.mean()
    return float((counts * block).sum() * n / len(wanted))


def plan_sparse(lead: Leading, orderings: tuple[str, ...] = cholmod.ORDERINGS) -> SparsePlan:
    """Pattern, order and supernodes of S; a fraction of the time of one evaluation or a few.

    Parameters
    ----------
    lead : Leading
    orderings : tuple of str
        Tried in turn while another one could pay; the one with the fewest flops is taken.

    Raises
    ------
    PathError
        Without scikit-sparse 0.4.
    """
    graph = _level_graph(lead)
    everything = np.arange(len(graph.width))
    ptr, ind = sparse_schur.clique_pattern(
        sparse_schur.clique_counts(everything, *graph.arrays), *graph.arrays
    )
    best = _best_order(ptr, ind, graph.width, orderings)
    pattern = _make_pattern(lead, best)
    panels, flops = _make_panels(best)
    entries = int(best.counts.sum())
    analysis = SparseAnalysis(
        best.method, lead.n_S, len(best.ind), entries, pattern.pairs, best.flops, flops,
        _predicted_bytes(lead, best, panels),
    )  # fmt: skip
    symbolic = cholmod.analyse(best.ptr, best.ind, entries=int(panels.panel[-1]))
    return SparsePlan(analysis, pattern, panels, symbolic)


@dataclass(frozen=True, slots=True)
class _LevelGraph:
    """Levels of the rest as vertices: partners of leading levels, and further edges from A22.

    ``arrays`` are the arguments of `sparse_schur.clique_counts` after the first; ``width``
    (n_levels,) holds the columns of each level.
    """

    width: Array
    arrays: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class _Order:
    """The columns of S in one elimination order, and what it costs."""

    method: str
    place: Array
    ptr: Array
    ind: Array
    parent: Array
    counts: Array

    @property
    def flops(self) -> float:
        """Multiplications and additions of a Cholesky factorisation."""
        return float((self.counts.astype(float) ** 2).sum())


def _level_graph(lead: Leading) -> _LevelGraph:
    width = np.repeat([s for _, s in lead.shapes], [levels for levels, _ in lead.shapes])
    first = np.concatenate([[0], np.cumsum(width)])
    level = np.repeat(np.arange(len(width), dtype=np.int32), width)
    indptr, cols = lead.indptr, lead.cols
    if len(width) < len(level):
        indptr, cols = sparse_schur.unique_levels(indptr, cols, level)
    colptr, rows, pos = partners.transpose_pattern(indptr, cols, len(width))
    extra_ptr, extra, _ = partners.transpose_pattern(lead.A22_ptr, lead.A22_cols, len(level))
    return _LevelGraph(width, (indptr, cols, colptr, rows, pos, extra_ptr[first], level[extra]))


def _best_order(ptr: Array, ind: Array, width: Array, methods: tuple[str, ...]) -> _Order:
    """The order with the fewest flops; the next method is tried while that could pay."""
    best = None
    for method in methods:
        levels = cholmod.order(ptr, ind, method)
        if levels is None:
            continue
        found = _expand_order(method, ptr, ind, width, levels)
        if best is None or found.flops < best.flops:
            best = found
        if best.flops < _WORTH_ORDERING * len(best.ind) or _is_full(best):
            break
    if best is None:
        best = _expand_order("natural", ptr, ind, width, np.arange(len(width)))
    return best


def _is_full(found: _Order) -> bool:
    """Whether S itself is so dense that no order can help much."""
    n = len(found.place)
    return 4 * len(found.ind) > n * (n + 1) // 2


def _expand_order(method: str, ptr: Array, ind: Array, width: Array, levels: Array) -> _Order:
    """From an order of the levels to the columns in elimination order."""
    levels = levels[_postorder(*sparse_schur.permute_pattern(ptr, ind, np.argsort(levels)))]
    place = np.argsort(levels)
    ptr, ind = sparse_schur.permute_pattern(ptr, ind, place)
    first = np.concatenate([[0], np.cumsum(width[levels])])
    if first[-1] > len(levels):
        ptr, ind = sparse_schur.expand_pattern(ptr, ind, first)
        before = np.cumsum(width) - width
        within = np.arange(first[-1]) - np.repeat(before, width)
        place = np.repeat(first[place], width) + within
    parent = _elimination_tree(ptr, ind)
    counts = supernodes.column_counts(ptr, ind, parent)
    return _Order(method, place, ptr, ind, parent, counts)


def _elimination_tree(ptr: Array, ind: Array) -> Array:
    rowptr, rowind, _ = partners.transpose_pattern(ptr, ind, len(ptr) - 1)
    return supernodes.elimination_tree(rowptr, rowind)


def _postorder(ptr: Array, ind: Array) -> Array:
    """What all that follows assumes, and CHOLMOD gives; an identity then."""
    return supernodes.postorder(_elimination_tree(ptr, ind))


def _make_pattern(lead: Leading, found: _Order) -> Pattern:
    cols, entry, colptr, rows, pos = partners.order_partners(
        np.argsort(found.place), lead.indptr, lead.colptr, lead.rows, lead.positions
    )
    a22_rows = np.repeat(np.arange(lead.n_S, dtype=np.int32), np.diff(lead.A22_ptr))
    a22 = sparse_schur.find_entries(a22_rows, lead.A22_cols, found.place, found.ptr, found.ind)
    reach = np.concatenate([[0], np.cumsum(lead.indptr[rows + 1] - pos)])
    pairs = np.diff(reach[colptr])
    chunks = _even_runs(pairs + np.diff(found.ptr))
    return Pattern(
        found.place, found.ptr, found.ind, lead.indptr, cols, entry, colptr, rows, pos, a22,
        chunks, float(reach[-1]),
    )  # fmt: skip


def _make_panels(found: _Order) -> tuple[Panels, float]:
    """Supernodes of the factor, and the flops of the selected inverse."""
    begin = supernodes.merge_supernodes(found.parent, found.counts, _MERGE_SLACK, _MERGE_NARROW)
    up = supernodes.supernode_tree(begin, found.parent, supernodes.column_owners(begin))
    heights = found.counts[begin[1:] - 1] - 1
    rowptr, rows = supernodes.supernode_rows(found.ptr, found.ind, begin, up, heights)
    begin, rowptr, rows = supernodes.split_supernodes(begin, rowptr, rows, _WIDEST)
    owner = supernodes.column_owners(begin)
    up = supernodes.panel_tree(rowptr, rows, owner)
    w, r = np.diff(begin), np.diff(rowptr)
    panel = np.concatenate([[0], np.cumsum(w * (w + r))])
    flops = (w.astype(float) * (2 * r * r + 4 * w * r + 3 * w * w)) + r * r
    order, bounds = supernodes.independent_tasks(up, flops, 0.25 / numba.get_num_threads())
    runs = _even_runs(w * (w + r))
    return Panels(begin, owner, rowptr, rows, panel, runs, order, bounds), float(flops.sum())


def _even_runs(work: Array) -> Array:
    """Boundaries of runs of about equal work, a few per thread; one run if there is little."""
    total = np.concatenate([[0], np.cumsum(work)])
    runs = int(min(8 * numba.get_num_threads(), 1 + total[-1] // 50_000))
    cuts = np.searchsorted(total, np.linspace(0, total[-1], runs + 1)[1:-1])
    return np.unique(np.concatenate([[0], cuts, [len(work)]])).astype(np.int64)


def _predicted_bytes(lead: Leading, found: _Order, panels: Panels) -> int:
    """Peak of one factorisation with inverse: CHOLMOD's factor, its copy by column, our panels."""
    held = int(panels.panel[-1])
    partners = len(lead.cols) * (28 + 24 * lead.D.shape[1])
    front = 8 * int(np.diff(panels.rowptr).max(initial=0)) ** 2
    return 36 * held + 4 * len(panels.rows) + 40 * len(found.ind) + partners + front
