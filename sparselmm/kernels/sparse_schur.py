"""The Schur complement of the leading factor on a fixed sparse pattern.

With G_l (s1 x its partners) the part of L21' that belongs to leading level l,

    S = A22 - sum_l G_l' G_l

touches exactly the pairs of columns that share a leading level or an entry of A22. That pattern
does not depend on theta: it is found once, and every later pass only fills the values.

Arrays
------
``indptr, cols, G``      the partners of each leading level, sorted within a level
``colptr, rows, pos``    the same entries by column: the leading level and the place in ``cols``
``ptr, ind``             lower triangle of S by column, rows sorted, diagonal always present
``first``                first column of each level of the rest, and the order of S at the end
``chunks``               boundaries of runs of columns of about equal work, one task each

Each column of S is gathered in a dense accumulator of its task (Gustavson's row-by-row product);
only partners at or below the diagonal are visited, so every pair is met once: O(sum d_l^2 / 2).
"""

import numpy as np
from numba import njit, prange

__all__ = [
    "clique_counts",
    "clique_pattern",
    "expand_pattern",
    "fill_schur",
    "find_entries",
    "partner_products",
    "permute_pattern",
    "sum_partner_products",
    "unique_levels",
]


@njit(cache=True, nogil=True)
def unique_levels(indptr, cols, level):
    """Levels of the rest met by each leading level, without repetition: pointers and levels.

    ``level`` (n,) maps a column to its level and must be non-decreasing.
    """
    out_ptr = np.zeros(indptr.size, np.int64)
    out = np.empty(cols.size, np.int32)
    k = 0
    for row in range(indptr.size - 1):
        last = -1
        for p in range(indptr[row], indptr[row + 1]):
            v = level[cols[p]]
            if v != last:
                out[k] = v
                k += 1
                last = v
        out_ptr[row + 1] = k
    return out_ptr, out[:k].copy()


@njit(cache=True, nogil=True)
def _mark_column(a, mark, colptr, rows, pos, indptr, cols, extra_ptr, extra, out, at):
    """List column ``a`` of the lower triangle from ``out[at]`` on (if any); return its length."""
    count = 1
    mark[a] = a
    if out.size:
        out[at] = a
    for t in range(colptr[a], colptr[a + 1]):
        for q in range(pos[t], indptr[rows[t] + 1]):
            b = cols[q]
            if mark[b] != a:
                mark[b] = a
                if out.size:
                    out[at + count] = b
                count += 1
    for q in range(extra_ptr[a], extra_ptr[a + 1]):
        b = extra[q]
        if mark[b] != a:
            mark[b] = a
            if out.size:
                out[at + count] = b
            count += 1
    return count


@njit(cache=True, nogil=True)
def clique_counts(wanted, indptr, cols, colptr, rows, pos, extra_ptr, extra):
    """Entries of the lower triangle of S in each of the columns ``wanted``, int64.

    ``extra_ptr, extra`` are further entries by column (the pattern of A22).
    """
    mark = np.full(colptr.size - 1, -1, np.int32)
    none = np.empty(0, np.int32)
    counts = np.empty(wanted.size, np.int64)
    for k in range(wanted.size):
        counts[k] = _mark_column(
            wanted[k], mark, colptr, rows, pos, indptr, cols, extra_ptr, extra, none, 0
        )
    return counts


@njit(cache=True, nogil=True)
def clique_pattern(counts, indptr, cols, colptr, rows, pos, extra_ptr, extra):
    """Lower triangle of S by column, sorted, from its column counts: ``ptr, ind``."""
    n = counts.size
    ptr = np.zeros(n + 1, np.int64)
    for a in range(n):
        ptr[a + 1] = ptr[a] + counts[a]
    ind = np.empty(ptr[n], np.int32)
    mark = np.full(n, -1, np.int32)
    for a in range(n):
        _mark_column(a, mark, colptr, rows, pos, indptr, cols, extra_ptr, extra, ind, ptr[a])
        ind[ptr[a] : ptr[a + 1]].sort()
    return ptr, ind


@njit(cache=True, nogil=True)
def permute_pattern(ptr, ind, place):
    """The lower triangle by column after column ``a`` has moved to ``place[a]``, sorted."""
    n = ptr.size - 1
    out_ptr = np.zeros(n + 1, np.int64)
    for a in range(n):
        for e in range(ptr[a], ptr[a + 1]):
            out_ptr[min(place[a], place[ind[e]]) + 1] += 1
    for a in range(n):
        out_ptr[a + 1] += out_ptr[a]
    out = np.empty(ind.size, np.int32)
    free = out_ptr[:-1].copy()
    for a in range(n):
        for e in range(ptr[a], ptr[a + 1]):
            low = min(place[a], place[ind[e]])
            out[free[low]] = max(place[a], place[ind[e]])
            free[low] += 1
    for a in range(n):
        out[out_ptr[a] : out_ptr[a + 1]].sort()
    return out_ptr, out


@njit(cache=True, nogil=True)
def expand_pattern(ptr, ind, first):
    """Columns in place of levels: level v becomes the columns ``first[v] : first[v+1]``."""
    n_levels = first.size - 1
    out_ptr = np.zeros(first[n_levels] + 1, np.int64)
    for v in range(n_levels):
        height = 0
        for e in range(ptr[v], ptr[v + 1]):
            height += first[ind[e] + 1] - first[ind[e]]
        for a in range(first[v], first[v + 1]):
            out_ptr[a + 1] = out_ptr[a] + height - (a - first[v])
    out = np.empty(out_ptr[-1], np.int32)
    for v in range(n_levels):
        for a in range(first[v], first[v + 1]):
            k = out_ptr[a]
            for e in range(ptr[v], ptr[v + 1]):
                for b in range(max(a, first[ind[e]]), first[ind[e] + 1]):
                    out[k] = b
                    k += 1
    return out_ptr, out


@njit(cache=True, nogil=True)
def find_entries(first_of_pair, second_of_pair, place, ptr, ind):
    """Positions in the lower triangle of the pairs of columns, before they moved."""
    out = np.empty(first_of_pair.size, np.int64)
    for m in range(out.size):
        i, j = place[first_of_pair[m]], place[second_of_pair[m]]
        a = min(i, j)
        out[m] = ptr[a] + np.searchsorted(ind[ptr[a] : ptr[a + 1]], max(i, j))
    return out


@njit(cache=True, nogil=True, parallel=True)
def fill_schur(chunks, ptr, ind, indptr, cols, G, colptr, rows, pos, values):
    """Subtract sum_l G_l' G_l from the ``values`` of A22 on the pattern. O(s1 sum d_l^2 / 2)."""
    n, s = ptr.size - 1, G.shape[1]
    for c in prange(chunks.size - 1):
        acc = np.zeros(n)
        for a in range(chunks[c], chunks[c + 1]):
            for t in range(colptr[a], colptr[a + 1]):
                p, end = pos[t], indptr[rows[t] + 1]
                if s == 1:
                    g = G[p, 0]
                    for q in range(p, end):
                        acc[cols[q]] += g * G[q, 0]
                elif s == 2:
                    g, h = G[p, 0], G[p, 1]
                    for q in range(p, end):
                        acc[cols[q]] += g * G[q, 0] + h * G[q, 1]
                else:
                    for q in range(p, end):
                        d = 0.0
                        for k in range(s):
                            d += G[p, k] * G[q, k]
                        acc[cols[q]] += d
            for e in range(ptr[a], ptr[a + 1]):
                values[e] -= acc[ind[e]]
                acc[ind[e]] = 0.0


@njit(cache=True, nogil=True, parallel=True)
def partner_products(chunks, ptr, ind, V, indptr, cols, G, colptr, rows, pos):
    """Half products h (nnz, s1) with G_l V G_l' = sum over the entries of l of g h' + h g'.

    ``V`` holds a symmetric matrix on the pattern of S. The products come by column (in the order
    of ``rows``), so that threads write apart from each other. O(s1 sum d_l^2 / 2).
    """
    n, s = ptr.size - 1, G.shape[1]
    out = np.empty(G.shape)
    for c in prange(chunks.size - 1):
        # Entries left from earlier columns are never read: partners of l are in column a.
        acc = np.zeros(n)
        h = np.empty(s)
        for a in range(chunks[c], chunks[c + 1]):
            for e in range(ptr[a], ptr[a + 1]):
                acc[ind[e]] = V[e]
            acc[a] *= 0.5
            for t in range(colptr[a], colptr[a + 1]):
                p, end = pos[t], indptr[rows[t] + 1]
                if s == 1:
                    d = 0.0
                    for q in range(p, end):
                        d += acc[cols[q]] * G[q, 0]
                    out[t, 0] = d
                    continue
                h[:] = 0.0
                for q in range(p, end):
                    x = acc[cols[q]]
                    for k in range(s):
                        h[k] += x * G[q, k]
                out[t, :] = h
    return out


@njit(cache=True, nogil=True, parallel=True)
def sum_partner_products(indptr, G, h):
    """Forms (l1, s1, s1): the sum over the entries of each leading level of g h' + h g'."""
    n_levels, s = indptr.size - 1, G.shape[1]
    out = np.zeros((n_levels, s, s))
    for row in prange(n_levels):
        for p in range(indptr[row], indptr[row + 1]):
            for i in range(s):
                for k in range(s):
                    out[row, i, k] += G[p, i] * h[p, k] + h[p, i] * G[p, k]
    return out
