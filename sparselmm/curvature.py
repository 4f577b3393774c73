"""Exact Hessian of the profiled deviance, for designs with few pairs of levels.

In the relative coordinates of `sparselmm.criterion`, with W = (Z Lambda)'M(Z Lambda), M = H^-1 (ML) or P (REML),

    d²d / da db = 2 (2 AI)_ab + (d_a'u)(d_b'u) / (nu s2²) - tr(W S_a W S_b)
    W = I - A^-1 [- V_X M^-1 V_X']

In expectation the trace is half of the first term, which leaves 2 AI. With few levels they may differ by as much as the
Hessian itself, and the average information, never negative, hides how flat (or bent downwards) the deviance is.

W is needed between all pairs of levels. The columns of the small factors (2) are solved for; between levels of the
largest factor (1) it is block-diagonal up to a low rank,

    W_11 = C - U K U',    C_l = I - (T'Z_l'WZ_l T + I)^-1,    U = [(A^-1)_12, V_X1],  K = diag((A^-1)_22^-1, M^-1)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparselmm._types import Array
from sparselmm.basis import block_diagonal
from sparselmm.criterion import Solution, by_levels, fixed_covariance
from sparselmm.gram import Gram
from sparselmm.tall import level_products, tall_product

Directions = Sequence[tuple[int, Array]]


def exact_hessian(gram: Gram, at: Solution, information: Array, directions: Directions) -> Array:
    """Second derivatives of the deviance in the given relative directions.

    The cost is one solve for every coefficient of all factors but the largest.

    Parameters
    ----------
    gram : Gram
    at : Solution
    information : ndarray, shape (m, m)
        2 AI in these directions.
    directions : sequence of (int, ndarray of shape (s_j, s_j))
        Factor and symmetric matrix S_a.

    Returns
    -------
    ndarray, shape (m, m)
    """
    squares = [tall_product(u, u) for u in by_levels(gram.shapes, at.u)]
    along = np.array([np.vdot(S, squares[j]) for j, S in directions])
    known = 2.0 * information + np.outer(along, along) / (at.nu * at.s2**2)
    return known - traces(gram, at, directions)


def rest_order(shapes: Sequence[tuple[int, int]]) -> int:
    """Coefficients of all factors but the largest."""
    sizes = [levels * s for levels, s in shapes]
    return sum(sizes) - max(sizes)


def traces(gram: Gram, at: Solution, directions: Directions) -> Array:
    """tr(W S_a W S_b), shape (m, m), where S_a stands for (I (x) S_a) on its factor and zero elsewhere."""
    sizes = [levels * s for levels, s in gram.shapes]
    lead, starts = int(np.argmax(sizes)), np.cumsum([0, *sizes])
    first = slice(starts[lead], starts[lead + 1])
    V, M = at.V_X, fixed_covariance(at) / at.s2
    V, M = (V, M) if at.reml else (V[:, :0], M[:0, :0])
    unit = np.delete(np.eye(gram.q), first, axis=1)
    rest = np.delete(np.arange(gram.q), first)
    X = at.factored.solve(unit) if len(rest) else unit
    W = unit - X - V @ (M @ V[rest].T)
    U, K = np.hstack([X[first], V[first]]), block_diagonal([np.linalg.inv(X[rest]), M])

    own = [[a for a, (j, _) in enumerate(directions) if j == k] for k in range(len(sizes))]
    S = [np.array([directions[a][1] for a in places]) for places in own]
    result = np.zeros((len(directions),) * 2)
    result[np.ix_(own[lead], own[lead])] = _within(gram.ZtZ[lead], at.T[lead], U, K, S[lead])
    column = 0
    for k in (k for k in range(len(sizes)) if k != lead):
        columns = W[:, column : column + sizes[k]].reshape(gram.q, *gram.shapes[k])
        column += sizes[k]
        for j, rows in enumerate(by_levels(gram.shapes, columns)):
            pairs = rows.transpose(0, 2, 1, 3).reshape(-1, *rows.shape[1::2])
            block = _contracted(level_products(pairs, pairs), S[j], S[k])
            result[np.ix_(own[j], own[k])] = block
            result[np.ix_(own[k], own[j])] = block.T
    return result


def _within(blocks: Array, T: Array, U: Array, K: Array, S: Array) -> Array:
    """tr(W_11 S_a W_11 S_b) of the largest factor, shape (m, m), from the blocks Z_l'WZ_l, U and K."""
    identity = np.eye(len(T))
    C = identity - np.linalg.inv(T.T @ blocks @ T + identity)
    U = U.reshape(*blocks.shape[:2], -1)
    low = U @ K @ U.transpose(0, 2, 1)
    near = _contracted(level_products(C, C - 2.0 * low), S, S)
    products = level_products(U, U).transpose(0, 2, 1, 3)
    P = np.tensordot(S, products, axes=2)
    far = (K @ P).reshape(len(S), -1) @ (P @ K).reshape(len(S), -1).T
    return 0.5 * (near + near.T) + far


def _contracted(products: Array, left: Array, right: Array) -> Array:
    """Sum over abcd of products[a, b, c, d] left[i, a, c] right[k, b, d]."""
    s, r = products.shape[:2]
    flat = products.transpose(0, 2, 1, 3).reshape(s * s, r * r)
    return left.reshape(-1, s * s) @ flat @ right.reshape(-1, r * r).T
