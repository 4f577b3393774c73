"""What the marginal precision H^-1 says between the columns of Z, X and y, by levels and without any n x n matrix.

With G = Z'WZ, V = A^-1 Lambda'Z'W[X y] and A = Lambda'G Lambda + I,

    N = Z'H^-1Z = G - G Lambda A^-1 Lambda'G           N f costs one solve and two products with G
    F = Z'H^-1X = Z'WX - G Lambda V_X                  a = Z'H^-1(y - X beta) = Z'We - G Lambda u

Nothing divides by a T: a singular one is as good as any. A direction is a factor j and a symmetric s_j x s_j matrix S;
it moves H by Z_j (I (x) S) Z_j'.

Sums over pairs of levels, as tr(N D_i N D_k) needs them, come from N applied to unit vectors. N is zero between levels
that no chain of rows connects, so one unit vector of every connected component goes into the same column: as many
columns as the largest component has coefficients, which is s for a single factor however many levels it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import block_array, bsr_array, csr_array
from scipy.sparse.csgraph import connected_components

from sparselmm._types import Array
from sparselmm.criterion import Solution, by_levels
from sparselmm.gram import Gram
from sparselmm.tall import level_products

CHUNK = 4_000_000  # entries of a block of columns

Direction = tuple[int, Array]


@dataclass(frozen=True, slots=True)
class Marginal:
    """H^-1 between the columns of Z, X and y at one solution, internal coordinates.

    Attributes
    ----------
    shapes : tuple of (int, int)
        Levels and coefficients per level of every factor.
    at : Solution
    G : csr_array, shape (q, q)
        Z'WZ.
    F : ndarray, shape (q, p)
        Z'H^-1X.
    a : ndarray, shape (q,)
        Z'H^-1(y - X beta).
    """

    shapes: tuple[tuple[int, int], ...]
    at: Solution
    G: csr_array
    F: Array
    a: Array

    @property
    def q(self) -> int:
        """Random effects in all."""
        return len(self.a)

    def scale(self, v: Array) -> Array:
        """Lambda v."""
        return self._blockwise([t.T for t in self.at.T], v)

    def scale_transposed(self, v: Array) -> Array:
        """Lambda'v."""
        return self._blockwise(self.at.T, v)

    def _blockwise(self, right: Sequence[Array], v: Array) -> Array:
        """Every level's part of v (or of its columns), from the left by the transpose of `right`."""
        out = np.zeros_like(v)
        views = zip(by_levels(self.shapes, v), by_levels(self.shapes, out), right, strict=True)
        for own, target, t in views:
            mix_columns(t, own, target)
        return out

    def precision(self, f: Array) -> Array:
        """N f for f of shape (q, m)."""
        if not f.shape[1]:
            return np.zeros_like(f)
        Gf = self.G @ f
        inner = self.at.factored.solve(self.scale_transposed(Gf))
        return Gf - self.G @ self.scale(inner)

    def move(self, direction: Direction, v: Array) -> Array:
        """(I (x) S) v on the direction's factor, zero elsewhere; v of shape (q,) or (q, m)."""
        factor, S = direction
        out = np.zeros_like(v)
        mix_columns(S, by_levels(self.shapes, v)[factor], by_levels(self.shapes, out)[factor])
        return out

    def products(self, direction: Direction, left: Array, right: Array) -> Array:
        """left'(I (x) S) right, summed over the levels of the direction's factor."""
        factor, S = direction
        first = by_levels(self.shapes, left)[factor]
        second = by_levels(self.shapes, right)[factor]
        moved = np.zeros_like(first)
        mix_columns(S, first, moved)
        return np.tensordot(moved, second, axes=([0, 1], [0, 1]))


def mix_columns(M: Array, own: Array, out: Array) -> None:
    """Add M'own[l] to out[l] for every level l; own and out of shape (l, s) or (l, s, m)."""
    for a, b in zip(*np.nonzero(M), strict=True):
        out[:, b] += M[a, b] * own[:, a]


def gram_matrix(gram: Gram) -> csr_array:
    """Z'WZ as one sparse matrix of order q."""
    k = len(gram.shapes)
    blocks: list[list] = [[None] * k for _ in range(k)]
    for j, ((levels, s), own) in enumerate(zip(gram.shapes, gram.ZtZ, strict=True)):
        pointers = np.arange(levels + 1)
        blocks[j][j] = bsr_array((own, pointers[:-1], pointers), shape=(levels * s,) * 2)
    for (i, j), block in gram.cross.items():
        (l_i, s_i), (l_j, s_j) = gram.shapes[i], gram.shapes[j]
        shape = (l_i * s_i, l_j * s_j)
        blocks[i][j] = bsr_array((block.values, block.indices, block.indptr), shape=shape)
        blocks[j][i] = blocks[i][j].T
    return blocks[0][0].tocsr() if k == 1 else block_array(blocks, format="csr")


def marginal(gram: Gram, at: Solution) -> Marginal:
    """H^-1 between Z, X and y at a solution."""
    products = np.concatenate([block.reshape(-1, gram.p + 1) for block in gram.ZtXy])
    G = gram_matrix(gram)
    bare = Marginal(gram.shapes, at, G, np.empty((gram.q, 0)), np.empty(gram.q))
    F = products[:, :-1] - G @ bare.scale(at.V_X)
    a = products[:, -1] - products[:, :-1] @ at.beta - G @ bare.scale(at.u)
    return Marginal(gram.shapes, at, G, F, a)


@dataclass(frozen=True, slots=True)
class Probes:
    """One place per unit vector: levels of a factor numbered within their connected component.

    Attributes
    ----------
    ranks : tuple of ndarray of int, shape (l_j,)
        Number of a level among those of its factor in its component.
    counts : tuple of int
        Largest number of levels of the factor in one component.
    """

    ranks: tuple[Array, ...]
    counts: tuple[int, ...]

    def columns(self, shapes: Sequence[tuple[int, int]]) -> int:
        """Columns to solve for."""
        return sum(count * s for count, (_, s) in zip(self.counts, shapes, strict=True))


def make_probes(gram: Gram) -> Probes:
    """Unit vectors that can share columns; O(nnz)."""
    levels = [count for count, _ in gram.shapes]
    starts = np.concatenate([[0], np.cumsum(levels)])
    rows = [starts[i] + block.first() for (i, _), block in gram.cross.items()]
    cols = [starts[j] + block.indices for (_, j), block in gram.cross.items()]
    labels = np.arange(starts[-1])
    if rows:
        ones = np.ones(sum(map(len, rows)), np.int8)
        edges = (ones, (np.concatenate(rows), np.concatenate(cols)))
        graph = csr_array(edges, shape=(starts[-1],) * 2)
        labels = connected_components(graph, directed=False)[1]
    ranks = tuple(
        _ranks(labels[start : start + n]) for start, n in zip(starts, levels, strict=False)
    )
    return Probes(ranks, tuple(int(rank.max()) + 1 for rank in ranks))


def _ranks(labels: Array) -> Array:
    """0, 1, 2, ... within every group of equal labels."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    ranks = np.empty(len(labels), np.int64)
    within = np.repeat(first, np.diff(first, append=len(labels)))
    ranks[order] = np.arange(len(labels)) - within
    return ranks


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sums over pairs of levels of products of blocks of N.

    Attributes
    ----------
    diagonal : tuple of ndarray, shape (s_j, s_j)
        Sums of the diagonal blocks N_ll.
    squares : dict of (j, k) to ndarray, shape (s_j, s_k, s_j, s_k)
        Sums over levels l of j and m of k of N_lm[a, b] N_lm[c, d].
    """

    diagonal: tuple[Array, ...]
    squares: dict[tuple[int, int], Array]

    def traces(self, directions: Sequence[Direction]) -> Array:
        """tr(H^-1 dH_i H^-1 dH_k), shape (m, m)."""
        out = np.empty((len(directions),) * 2)
        groups = by_factor(directions)
        for j, (own, S) in groups.items():
            for k, (other, R) in groups.items():
                square = self.squares[j, k].transpose(0, 2, 1, 3).reshape(S.shape[1], R.shape[1])
                out[np.ix_(own, other)] = S @ square @ R.T
        return out

    def traces_once(self, directions: Sequence[Direction]) -> Array:
        """tr(H^-1 dH_i), shape (m,)."""
        return np.array([np.vdot(self.diagonal[j], S) for j, S in directions])


def by_factor(directions: Sequence[Direction]) -> dict[int, tuple[list[int], Array]]:
    """Places of every factor's directions, and their matrices by rows, shape (m_j, s_j²)."""
    places: dict[int, list[int]] = {}
    for i, (factor, _) in enumerate(directions):
        places.setdefault(factor, []).append(i)
    return {
        factor: (own, np.array([directions[i][1].ravel() for i in own]))
        for factor, own in places.items()
    }


def level_pairs(m: Marginal, probes: Probes) -> Pairs:
    """Sums over all pairs of levels, exact; one solve per column of `probes`."""
    diagonal = [np.zeros((s, s)) for _, s in m.shapes]
    squares = {
        (j, k): np.zeros((s_j, s_k, s_j, s_k))
        for j, (_, s_j) in enumerate(m.shapes)
        for k, (_, s_k) in enumerate(m.shapes)
    }
    for k, start, stop in _chunks(m, probes):
        rank, s_k = probes.ranks[k], m.shapes[k][1]
        own = np.flatnonzero((rank >= start) & (rank < stop))
        width = stop - start
        E = np.zeros((m.q, width * s_k))
        coefficient = np.arange(s_k)
        place = (rank[own] - start)[:, None] * s_k + coefficient
        offset = sum(levels * s for levels, s in m.shapes[:k])
        E[offset + own[:, None] * s_k + coefficient, place] = 1.0
        columns = by_levels(m.shapes, m.precision(E))
        blocks = columns[k].reshape(-1, s_k, width, s_k)[own, :, rank[own] - start]
        diagonal[k] += blocks.sum(axis=0)
        for j, block in enumerate(columns):
            s_j = block.shape[1]
            flat = block.reshape(-1, s_j, width, s_k).transpose(0, 2, 1, 3).reshape(-1, s_j * s_k)
            squares[j, k] += (flat.T @ flat).reshape(s_j, s_k, s_j, s_k)
    return Pairs(tuple(diagonal), squares)


def _chunks(m: Marginal, probes: Probes) -> Iterator[tuple[int, int, int]]:
    """Factor and range of ranks of every block of columns."""
    for k, (count, (_, s)) in enumerate(zip(probes.counts, m.shapes, strict=True)):
        width = max(1, CHUNK // (m.q * s))
        for start in range(0, count, width):
            yield k, start, min(start + width, count)


def sandwiches(m: Marginal, directions: Sequence[Direction]) -> tuple[Array, Array]:
    """X'H^-1 D_i H^-1 X, shape (m, p, p), and X'H^-1 D_i H^-1 D_k H^-1 X, shape (m, m, p, p).

    Here D_i is the derivative of H along a direction; p solves for every direction.
    """
    size, p = len(directions), m.F.shape[1]
    once = np.array([m.products(d, m.F, m.F) for d in directions]).reshape(size, p, p)
    twice, groups = np.empty((size, size, p, p)), by_factor(directions)
    left = by_levels(m.shapes, m.F)
    for k, second in enumerate(directions):
        right = by_levels(m.shapes, m.precision(m.move(second, m.F)))
        for j, (own, S) in groups.items():
            both = level_products(left[j], right[j]).transpose(0, 2, 1, 3)
            twice[own, k] = (S @ both.reshape(S.shape[1], p * p)).reshape(len(own), p, p)
    return once, twice
