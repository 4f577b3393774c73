"""Elimination of columns on bitsets: which entries of a Cholesky factor a sparse pattern fills, and in which order.

Row a of a pattern holds one bit per column, 64 to a word. Where a few thousand columns are filled by a tenth or
more, whole words are faster than lists: eliminating a column joins its row to those of its neighbours.
"""

from __future__ import annotations

import numpy as np

from sparselmm.kernels.compile import inner, outer

ONE, WORD, SHIFT = np.uint64(1), 64, 6  # a word has 2**6 bits
EVEN, PAIRS, NIBBLES, BYTES = (
    np.uint64(mask)
    for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
)

GONE = np.int32(2**31 - 1)


@inner
def _count(word):
    """Bits that are set."""
    word = word - ((word >> ONE) & EVEN)
    word = (word & PAIRS) + ((word >> np.uint64(2)) & PAIRS)
    word = (word + (word >> np.uint64(4))) & NIBBLES
    return np.int64((word * BYTES) >> np.uint64(56))


@inner
def _first(word):
    """Place of the lowest bit that is set."""
    return _count((word & (~word + ONE)) - ONE)


@inner
def _set(row, column):
    row[column >> SHIFT] |= ONE << np.uint64(column & (WORD - 1))


@inner
def _size(row):
    """Columns in a row."""
    total = 0
    for word in row:
        total += _count(word)
    return total


@inner
def _members(row, out):
    """Write the columns of a row to `out`, increasing; return how many."""
    count = 0
    for w in range(len(row)):
        word = row[w]
        while word:
            out[count] = w * WORD + _first(word)
            count += 1
            word &= word - ONE
    return count


@outer
def joint_pattern(indptr, cols, extra_ptr, extra_cols):
    """Pattern of S: columns that share a row of ``indptr, cols`` or an entry of ``extra_ptr, extra_cols``.

    Parameters
    ----------
    indptr, cols : partners of every leading level
    extra_ptr, extra_cols : lower triangle in compressed rows, one row per column

    Returns
    -------
    ndarray of uint64, shape (n, ceil(n / 64))
        Symmetric, the diagonal included.
    """
    n = len(extra_ptr) - 1
    words = (n + WORD - 1) // WORD
    out, partners = np.zeros((n, words), np.uint64), np.zeros(words, np.uint64)
    for level in range(len(indptr) - 1):
        partners[:] = 0
        for k in range(indptr[level], indptr[level + 1]):
            _set(partners, cols[k])
        for k in range(indptr[level], indptr[level + 1]):
            row = out[cols[k]]
            for w in range(words):
                row[w] |= partners[w]
    for a in range(n):
        _set(out[a], a)
        for k in range(extra_ptr[a], extra_ptr[a + 1]):
            _set(out[a], extra_cols[k])
            _set(out[extra_cols[k]], a)
    return out


@outer
def eliminate_smallest(pattern, full):
    """Eliminate the column with fewest neighbours again and again, until it meets the share `full` of those left.

    Parameters
    ----------
    pattern : ndarray of uint64, shape (n, words)
        Symmetric, with diagonal. Overwritten: the row of an eliminated column becomes that of the
        Cholesky factor (without the diagonal).
    full : float

    Returns
    -------
    order : ndarray of int64, shape (n,)
        Columns in the order of their elimination, then those that are left.
    count : int
        Columns eliminated; at least one is left.
    """
    n = len(pattern)
    size = np.empty(n, np.int32)
    for a in range(n):
        size[a] = _size(pattern[a])
    order, neighbours = np.empty(n, np.int64), np.empty(n, np.int64)
    count = 0
    while count < n - 1:
        least = size.min()  # compilers make wide steps of this, not of a search for the place
        smallest = 0
        while size[smallest] != least:
            smallest += 1
        if least >= full * (n - count):
            break
        order[count] = smallest
        count += 1
        size[smallest] = GONE
        own = pattern[smallest]
        word, others = smallest >> SHIFT, ~(ONE << np.uint64(smallest & (WORD - 1)))
        own[word] &= others
        for k in range(_members(own, neighbours)):
            row, total = pattern[neighbours[k]], 0
            row[word] &= others
            for w in range(len(row)):
                joined = row[w] | own[w]
                row[w] = joined
                total += _count(joined)
            size[neighbours[k]] = total
    last = count
    for a in range(n):
        if size[a] != GONE:
            order[last] = a
            last += 1
    return order, count


@outer
def elimination_tree(pattern, order, place, count):
    """Parent (-1: none among the eliminated) and entries, diagonal included, of every eliminated column.

    Parameters
    ----------
    pattern, order, count : what `eliminate_smallest` left and returned
    place : ndarray of int64, shape (n,)
        The inverse of `order`.

    Returns
    -------
    parent, entries : ndarray of int64, shape (count,)
    """
    parent, entries = np.empty(count, np.int64), np.empty(count, np.int64)
    below = np.empty(len(order), np.int64)
    for k in range(count):
        size = _members(pattern[order[k]], below)
        nearest = len(order)
        for i in range(size):
            nearest = min(nearest, place[below[i]])
        parent[k] = nearest if nearest < count else -1
        entries[k] = 1 + size
    return parent, entries


@outer
def rows_below(pattern, columns):
    """Members of the rows of some columns, one after the other: pointers (columns + 1,) and members."""
    pointers = np.zeros(len(columns) + 1, np.int64)
    for k in range(len(columns)):
        pointers[k + 1] = pointers[k] + _size(pattern[columns[k]])
    out = np.empty(pointers[-1], np.int64)
    for k in range(len(columns)):
        _members(pattern[columns[k]], out[pointers[k] :])
    return pointers, out
