"""The Schur complement S = A22 - L21 L21' and its adjoint, in block-dense storage.

S is held as one dense square per connected component of the design (one component: a crossed design; many:
nested groups). Column a of S is row `local[a]` of a square of order `size[a]` that starts at `base[a]` of a flat
array, so that S[a, b] sits at base[a] + local[a] * size[a] + local[b]; only b <= a is written. Rows are built
one after the other (Gustavson): row a gathers L21[a, :] L21' through the leading levels that a meets, so writes
stay within one row in cache and rows are independent of each other.

`places` holds local[cols]: where each partner of a leading level is within its component's rows.
"""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def assemble(
    begin, end, indptr, places, colptr, rows, positions, G, A22_ptr, A22_places, A22, base, local, size, S
):  # fmt: skip
    """Rows begin to end of the lower triangles of S.

    Parameters
    ----------
    indptr, places, colptr, rows, positions : pattern of L21 and its transposed view
    G : ndarray, shape (s, nnz)
        L21, transposed (a third slower the other way round).
    A22_ptr, A22_places, A22 : lower triangle of A22 in compressed rows, diagonal included
    base, local, size : ndarray of int64, shape (n_S,)
    S : ndarray, shape (length,)
        Written to, but not above the diagonals.
    """
    for a in range(begin, end):
        start = base[a] + local[a] * size[a]
        row = S[start : start + local[a] + 1]
        row[:] = 0.0
        for k in range(A22_ptr[a], A22_ptr[a + 1]):
            row[A22_places[k]] += A22[k]
        for k in range(colptr[a], colptr[a + 1]):
            here, first = positions[k], indptr[rows[k]]
            partners = places[first : here + 1]
            for r in range(len(G)):
                g, values = G[r, here], G[r, first : here + 1]
                for j in range(len(partners)):
                    row[partners[j]] -= g * values[j]


@njit(cache=True, nogil=True)
def partner_forms(begin, end, indptr, cols, places, G, inverse, base, local, size, out):
    """G_l S^-1 G_l' for leading levels begin to end: the adjoint of `assemble`.

    Parameters
    ----------
    indptr, cols, places, G : L21 as in `assemble`
    inverse : ndarray, shape (length,)
        Lower triangles of S^-1, flat.
    base, local, size : as in `assemble`
    out : ndarray, shape (levels, s, s)
        Written to.
    """
    s = len(G)
    for level in range(begin, end):
        block, first = out[level], indptr[level]
        block[:] = 0.0
        for i in range(first, indptr[level + 1]):
            a = cols[i]
            start = base[a] + local[a] * size[a]
            row, partners = inverse[start : start + size[a]], places[first:i]
            for c in range(s):
                total, values = 0.5 * row[places[i]] * G[c, i], G[c, first:i]
                for j in range(len(partners)):
                    total += row[partners[j]] * values[j]
                for r in range(s):
                    block[r, c] += G[r, i] * total
        for r in range(s):
            for c in range(r + 1):
                total = block[r, c] + block[c, r]
                block[r, c] = total
                block[c, r] = total
