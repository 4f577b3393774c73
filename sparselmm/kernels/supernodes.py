"""Symbolic factorisation: elimination tree, column counts, supernodes and their rows.

The matrix is given as the lower triangle by column (``ptr, ind``: rows sorted, diagonal first) in
its elimination order, postordered: a child comes before its parent and subtrees are contiguous.
Nothing here looks at values.
"""

import numpy as np
from numba import njit

__all__ = [
    "column_counts",
    "column_owners",
    "elimination_tree",
    "independent_tasks",
    "merge_supernodes",
    "panel_tree",
    "postorder",
    "split_supernodes",
    "supernode_rows",
    "supernode_tree",
]


@njit(cache=True, nogil=True)
def elimination_tree(rowptr, rowind):
    """Parent (n,) of every column, -1 at a root; from the lower triangle by row. Nearly O(nnz).

    Column j of row i leads up the tree built so far to a root, which gets i as its parent;
    ``jump`` shortens later walks over the same path.
    """
    n = rowptr.size - 1
    parent = np.full(n, -1, np.int64)
    jump = np.full(n, -1, np.int64)
    for i in range(n):
        for e in range(rowptr[i], rowptr[i + 1]):
            j = np.int64(rowind[e])
            while j != -1 and j < i:
                up = jump[j]
                jump[j] = i
                if up == -1:
                    parent[j] = i
                j = up
    return parent


@njit(cache=True, nogil=True)
def postorder(parent):
    """Order (n,) in which children come before their parent and subtrees are contiguous.

    The identity where the columns are in such an order already. O(n).
    """
    n = parent.size
    child = np.full(n, -1, np.int64)
    sibling = np.full(n, -1, np.int64)
    for j in range(n - 1, -1, -1):
        if parent[j] >= 0:
            sibling[j] = child[parent[j]]
            child[parent[j]] = j
    order = np.empty(n, np.int64)
    k = 0
    for root in range(n):
        if parent[root] >= 0:
            continue
        j = np.int64(root)
        while True:
            while child[j] >= 0:
                below = child[j]
                child[j] = sibling[below]
                j = below
            order[k] = j
            k += 1
            if j == root:
                break
            j = parent[j]
    return order


@njit(cache=True, nogil=True)
def _meet(j, root):
    """The representative of j in the disjoint sets ``root``, with path halving."""
    while root[j] != j:
        root[j] = root[root[j]]
        j = root[j]
    return j


@njit(cache=True, nogil=True)
def column_counts(ptr, ind, parent):
    """Entries (n,) of every column of the Cholesky factor, diagonal included. Nearly O(nnz).

    Column j of L has one entry for each row subtree through j. A row subtree is known by its
    leaves: counting +1 at each leaf and -1 where two neighbouring leaves meet, sums over
    subtrees give the counts (Gilbert, Ng and Peyton 1994).
    """
    n = parent.size
    start = np.arange(n)
    for j in range(n):
        if parent[j] >= 0:
            start[parent[j]] = min(start[parent[j]], start[j])
    delta = np.zeros(n, np.int64)
    latest = np.full(n, -1, np.int64)
    root = np.arange(n)
    for j in range(n):
        if start[j] == j:
            delta[j] += 1
        for e in range(ptr[j] + 1, ptr[j + 1]):
            i = ind[e]
            # j is a leaf of the subtree of row i unless an earlier leaf lies below j.
            if latest[i] < start[j]:
                delta[j] += 1
                if latest[i] >= 0:
                    delta[_meet(latest[i], root)] -= 1
                latest[i] = j
        if parent[j] >= 0:
            delta[parent[j]] -= 1
            root[j] = parent[j]
    for j in range(n):
        if parent[j] >= 0:
            delta[parent[j]] += delta[j]
    return delta


@njit(cache=True, nogil=True)
def merge_supernodes(parent, counts, slack, narrow):
    """First columns (n_super+1,) of runs of columns that share their rows, or nearly do.

    Two neighbouring runs become one when the zeros this stores stay below the share ``slack`` of
    the panel, or when it is at most ``narrow`` columns wide and less than half zeros.
    """
    n = parent.size
    begin = np.empty(n + 1, np.int64)
    zeros = np.zeros(n, np.int64)
    k = -1
    for j in range(n):
        k += 1
        begin[k] = j
        zeros[k] = 0
        height = counts[j] - 1
        while k > 0 and parent[begin[k] - 1] >= begin[k] and parent[begin[k] - 1] <= j:
            below = counts[begin[k] - 1] - 1
            width = begin[k] - begin[k - 1]
            full = j + 1 - begin[k] + height
            stored = zeros[k - 1] + zeros[k] + width * (full - below)
            total = j + 1 - begin[k - 1]
            size = total * (total + 1) // 2 + total * height
            small = total <= narrow and 2 * stored <= size
            if full != below and stored > slack * size and not small:
                break
            zeros[k - 1] = stored
            k -= 1
    begin[k + 1] = n
    return begin[: k + 2].copy()


@njit(cache=True, nogil=True)
def column_owners(begin):
    """Supernode of each column, int32."""
    owner = np.empty(begin[-1], np.int32)
    for s in range(begin.size - 1):
        owner[begin[s] : begin[s + 1]] = s
    return owner


@njit(cache=True, nogil=True)
def supernode_tree(begin, parent, owner):
    """Parent (n_super,) of every supernode, -1 at a root, from the tree of the columns."""
    up = np.full(begin.size - 1, -1, np.int64)
    for s in range(up.size):
        if parent[begin[s + 1] - 1] >= 0:
            up[s] = owner[parent[begin[s + 1] - 1]]
    return up


@njit(cache=True, nogil=True)
def panel_tree(rowptr, rows, owner):
    """Parent (n_super,) of every supernode, -1 at a root, from its first row.

    Where pieces of a merged supernode are concerned this differs from the tree of the columns:
    a piece depends on all later ones.
    """
    up = np.full(rowptr.size - 1, -1, np.int64)
    for s in range(up.size):
        if rowptr[s + 1] > rowptr[s]:
            up[s] = owner[rows[rowptr[s]]]
    return up


@njit(cache=True, nogil=True)
def supernode_rows(ptr, ind, begin, up, heights):
    """Sorted rows below each supernode: pointers (n_super+1,) and rows.

    ``heights`` (n_super,) are their numbers. The rows are those of the matrix and of the
    children's rows beyond the supernode.
    """
    n_super = begin.size - 1
    rowptr = np.zeros(n_super + 1, np.int64)
    for s in range(n_super):
        rowptr[s + 1] = rowptr[s] + heights[s]
    rows = np.empty(rowptr[n_super], np.int32)
    child = np.full(n_super, -1, np.int64)
    sibling = np.full(n_super, -1, np.int64)
    mark = np.full(ptr.size - 1, -1, np.int64)
    for s in range(n_super):
        k, last = rowptr[s], begin[s + 1]
        for e in range(ptr[begin[s]], ptr[last]):
            if ind[e] >= last and mark[ind[e]] != s:
                mark[ind[e]] = s
                rows[k] = ind[e]
                k += 1
        c = child[s]
        while c >= 0:
            for e in range(rowptr[c], rowptr[c + 1]):
                if rows[e] >= last and mark[rows[e]] != s:
                    mark[rows[e]] = s
                    rows[k] = rows[e]
                    k += 1
            c = sibling[c]
        rows[rowptr[s] : k].sort()
        if up[s] >= 0:
            sibling[s] = child[up[s]]
            child[up[s]] = s
    return rowptr, rows


@njit(cache=True, nogil=True)
def split_supernodes(begin, rowptr, rows, widest):
    """Cut supernodes into pieces of at most ``widest`` columns: ``begin, rowptr, rows`` anew.

    A piece has the later columns of its supernode among its rows.
    """
    n_piece = 0
    n_rows = 0
    for s in range(begin.size - 1):
        for a in range(begin[s], begin[s + 1], widest):
            n_piece += 1
            n_rows += max(begin[s + 1] - a - widest, 0) + rowptr[s + 1] - rowptr[s]
    out_begin = np.empty(n_piece + 1, np.int64)
    out_ptr = np.zeros(n_piece + 1, np.int64)
    out = np.empty(n_rows, np.int32)
    k = 0
    e = 0
    for s in range(begin.size - 1):
        for a in range(begin[s], begin[s + 1], widest):
            out_begin[k] = a
            for b in range(a + widest, begin[s + 1]):
                out[e] = b
                e += 1
            for q in range(rowptr[s], rowptr[s + 1]):
                out[e] = rows[q]
                e += 1
            k += 1
            out_ptr[k] = e
    out_begin[k] = begin[-1]
    return out_begin, out_ptr, out


@njit(cache=True, nogil=True)
def independent_tasks(up, work, share):
    """Order of the supernodes from the roots down, cut into one top and independent subtrees.

    A supernode is in the top when its subtree holds more than ``share`` of all ``work``.

    Returns
    -------
    order : (n_super,) int64
        Ancestors always before descendants; the top comes first.
    bounds : (n_tasks + 1,) int64
        Task t is ``order[bounds[t] : bounds[t + 1]]``; the top is ``order[: bounds[0]]``.
    """
    n = up.size
    total = work.copy()
    size = np.ones(n, np.int64)
    for s in range(n):
        if up[s] >= 0:
            total[up[s]] += total[s]
            size[up[s]] += size[s]
    limit = share * work.sum()
    order = np.empty(n, np.int64)
    bounds = np.empty(n + 1, np.int64)
    k = 0
    for s in range(n - 1, -1, -1):
        if total[s] > limit:
            order[k] = s
            k += 1
    bounds[0] = k
    n_tasks = 0
    open_work = 0.0
    for s in range(n - 1, -1, -1):
        if total[s] <= limit and (up[s] < 0 or total[up[s]] > limit):
            for c in range(s, s - size[s], -1):
                order[k] = c
                k += 1
            open_work += total[s]
            if open_work > 0.5 * limit:
                n_tasks += 1
                bounds[n_tasks] = k
                open_work = 0.0
    if bounds[n_tasks] < n:
        n_tasks += 1
        bounds[n_tasks] = n
    return order, bounds[: n_tasks + 1].copy()
