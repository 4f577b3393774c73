"""What one factorisation tells about the points next to it: estimates, value and score without another one.

At T_1 = T N, with K = (N N')^-1 - I, block-diagonal as N is, A_1 = N'(A + K)N. As |A^-1| < 1, for small K

    V_1 = N^-1 W           with W = V - A^-1 K W, by repetition: W_k from W_k-1
    V'K W                  = V'K W_k-1 + W_k'K (W_k - W_k-1) to second order in what is left
    log|A_1| = log|A| + sum_j (2 l_j log|N_j| + <B_j, K_j> - <C_j, K_j> / 2) + …
    B_1j = N_j^-1 (B_j - C_j + …) N_j^-T

where C_j sums the diagonal blocks of A^-1 K A^-1. That is estimated by X'K X with X = A^-1 z, where z has random signs,
one per level, in one coefficient of one factor (Hutchinson 1990, Commun. Stat. Simul. Comput. 19). The sampling error
is of second order in K and shows in the spread of the estimates; for a factor of few levels where it is too large, the
unit vectors of all levels give C_j exactly. What the series leave out is bounded:

    log|A_1|:  sum_j <C_j, K_j> |K| / (3 - 3 |K|)          B_1j:  |K X|² / (1 - |K|)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sparselmm._types import Array
from sparselmm.criterion import Solution, by_levels, profiled
from sparselmm.gram import Gram
from sparselmm.linalg import solve_lower
from sparselmm.tall import level_products, tall_product
from sparselmm.threads import side_by_side

REACH = 0.05  # relative change of T over which estimates follow from a factor
EXACT = 1e-10  # their relative error
SCORED = 1e-7  # the same where only value and score are asked for
PROBES = 4  # vectors of signs per coefficient of a level
FEW_LEVELS = 8 * PROBES  # levels up to which each may have its own vector
SEED = 0  # the same signs in every fit


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """A solution with its factor, and what the scores next to it need besides.

    Attributes
    ----------
    gram : Gram
    at : Solution
    B : sequence of ndarray, shape (s_j, s_j)
        Sums of the diagonal blocks of A^-1.
    products : list of tuple of ndarray, shape (PROBES, s_i, s_j, s_i, s_j)
        Per factors j and i: products of the entries of A^-1 z, for z in factor j, summed over the levels of i. One
        sum, instead of one per probe, where `sharpen` has replaced them.
    """

    gram: Gram
    at: Solution
    B: Sequence[Array]
    products: list[tuple[Array, ...]]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A solution next to a factorisation.

    Attributes
    ----------
    solution : Solution
        Without a factor.
    B : list of ndarray, shape (s_j, s_j)
        Sums of the diagonal blocks of A^-1.
    error : float
        Of the deviance: standard error of the estimate, and bound of what is left out.
    B_errors : list of float
        The same of every B_j (Frobenius norm).
    """

    solution: Solution
    B: list[Array]
    error: float
    B_errors: list[float]


def neighbourhood(gram: Gram, at: Solution, B: Sequence[Array]) -> Neighbourhood:
    """Solve for the probes.

    Parameters
    ----------
    gram : Gram
    at : Solution
        With its factor.
    B : sequence of ndarray, shape (s_j, s_j)
        Sums of the diagonal blocks of A^-1 there.
    """
    signs = [
        np.random.default_rng((SEED, j)).choice([-1.0, 1.0], (levels, PROBES))
        for j, (levels, _) in enumerate(gram.shapes)
    ]
    tasks = [partial(_products, gram, at, j, own) for j, own in enumerate(signs)]
    return Neighbourhood(gram, at, B, side_by_side(tasks))


def sharpen(around: Neighbourhood, factors: Iterable[int]) -> bool:
    """Give every level its own vector in those of the factors that have few; whether any are new."""
    new = [
        j
        for j in factors
        if around.gram.shapes[j][0] <= FEW_LEVELS and len(around.products[j][0]) > 1
    ]
    for j in new:
        products = _products(around.gram, around.at, j, np.eye(around.gram.shapes[j][0]))
        around.products[j] = tuple(own.sum(axis=0, keepdims=True) for own in products)
    return bool(new)


def _products(gram: Gram, at: Solution, j: int, signs: Array) -> tuple[Array, ...]:
    """Of the entries of A^-1 z, probe by probe; signs of shape (l_j, probes)."""
    s = gram.shapes[j][1]
    Z = np.zeros((gram.q, s, signs.shape[1]))
    own = by_levels(gram.shapes, Z)[j]
    for a in range(s):
        own[:, a, a] = signs
    X = at.factored.solve(Z.reshape(gram.q, -1)).reshape(Z.shape)
    by_probe = [by_levels(gram.shapes, np.ascontiguousarray(x)) for x in np.moveaxis(X, 2, 0)]
    return tuple(np.array([level_products(x, x) for x in of]) for of in zip(*by_probe, strict=True))


def neighbour(
    around: Neighbourhood, T: Sequence[Array], guess: Solution | None = None
) -> Neighbour | None:
    """Value and score at T close by; None where it is too far away (see `solve_beside`)."""
    gram, at = around.gram, around.at
    moved = _moved(gram, at, T, guess, SCORED)
    if moved is None:
        return None
    back, K, solution = moved
    size = _size(K)
    logdet, series = at.logdet_A, 1.0 / (1.0 - size)
    second, variance, B, B_errors = 0.0, 0.0, [], []
    for (levels, _), own, products, inverse, change in zip(
        gram.shapes, around.B, around.products, back, K, strict=True
    ):
        samples, squares = _sampled(products, K)
        C, spread = _mean(samples)
        B_errors.append(float(np.linalg.norm(spread)) + series * squares)
        B.append(inverse @ (own - C) @ inverse.T)
        logdet -= 2.0 * levels * float(np.log(np.abs(inverse.diagonal())).sum())
        logdet += float(np.vdot(own, change))
        mean, spread = _mean(0.5 * np.einsum("pab,ab->p", samples, change))
        second, variance = second + float(mean), variance + float(spread) ** 2
    logdet -= second
    error = np.sqrt(variance) + 2.0 / 3.0 * series * size * abs(second)
    solution = replace(solution, deviance=solution.deviance + logdet, logdet_A=logdet)
    return Neighbour(solution, B, float(error), B_errors)


def _sampled(products: Sequence[Array], K: Sequence[Array]) -> tuple[Array, float]:
    """X'K X of every probe, shape (probes, s_j, s_j), and the mean of |K X|²."""
    pairs = list(zip(products, K, strict=True))
    C = np.sum([np.einsum("pcadb,cd->pab", own, change) for own, change in pairs], axis=0)
    squares = sum(np.einsum("pcada,cd->", own, change @ change) for own, change in pairs)
    return C, float(squares) / len(C)


def _mean(samples: Array) -> tuple[Array, Array]:
    """The mean of what the probes gave and its standard error; a single one is exact."""
    mean = samples.mean(axis=0)
    if len(samples) == 1:
        return mean, np.zeros_like(mean)
    return mean, samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


def solve_beside(
    gram: Gram, at: Solution, T: Sequence[Array], deviance: float, guess: Solution | None = None
) -> Solution | None:
    """The solution at T close by, from the factor at hand; None where T is too far away or at.T is singular.

    Parameters
    ----------
    at : Solution
        With its factor.
    T : sequence of ndarray, shape (s_j, s_j)
        Relative covariance factors in internal coordinates.
    deviance : float
        The value at T, as the quadratic model has it: log|A_1| is what is not computed anew.
    guess : Solution, optional
        At a point still closer.

    Returns
    -------
    Solution or None
        Without a factor.
    """
    moved = _moved(gram, at, T, guess, EXACT)
    if moved is None:
        return None
    new = moved[2]
    return replace(new, deviance=deviance, logdet_A=deviance - new.deviance)


def _moved(
    gram: Gram, at: Solution, T: Sequence[Array], guess: Solution | None, error: float
) -> tuple[list[Array], list[Array], Solution] | None:
    """N^-1, K, and the solution as if log|A_1| were zero; [X y]'H_1^-1[X y] = [X y]'H^-1[X y] + V'K W."""
    T = tuple(np.ascontiguousarray(t, dtype=float) for t in T)
    if not relative_change(at.T, T) < REACH:
        return None
    back = [solve_lower(new, old) for old, new in zip(at.T, T, strict=True)]
    K = [own.T @ own - np.eye(len(own)) for own in back]
    before, W = _repeated(gram, at, K, guess, error)
    M = at.L_M @ at.L_M.T
    c = M @ at.beta
    inner = np.block([[M, c[:, None]], [c[None, :], np.array([[at.r2 + at.beta @ c]])]])
    inner += tall_product(at.V, _by_blocks(gram, K, before))
    inner += tall_product(W, _by_blocks(gram, K, W - before))
    solution = profiled(gram, T, at.factored, 0.0, _by_blocks(gram, back, W), inner, reml=at.reml)
    return back, K, replace(solution, factored=None)


def _repeated(
    gram: Gram, at: Solution, K: Sequence[Array], guess: Solution | None, error: float
) -> tuple[Array, Array]:
    """W to a relative error, and the one before: what a repetition changes, times |K|, is left."""
    size, W = _size(K), at.V
    if guess is not None and guess is not at:
        to_guess = [solve_lower(*pair) for pair in zip(at.T, guess.T, strict=True)]
        W = _by_blocks(gram, to_guess, guess.V)
    before, enough = W, error * np.linalg.norm(at.V, axis=0)
    for _ in range(int(np.log(error) / np.log(max(size, error)))):
        before, W = W, at.V - at.factored.solve(_by_blocks(gram, K, W))
        if (size * np.linalg.norm(W - before, axis=0) <= enough).all():
            break
    return before, W


def log_change(gram: Gram, old: Sequence[Array], new: Sequence[Array]) -> float:
    """Size of the terms of second order by which log|A| changes: sum of l_j |T_old^-1 T_new - I|²."""
    norms = _change_norms(old, new)
    return sum(levels * norm**2 for (levels, _), norm in zip(gram.shapes, norms, strict=True))


def relative_change(old: Sequence[Array], new: Sequence[Array]) -> float:
    """Largest of the norms |T_old^-1 T_new - I| (Frobenius); infinite where a pivot of the old T is zero."""
    return max(_change_norms(old, new))


def _change_norms(old: Sequence[Array], new: Sequence[Array]) -> list[float]:
    if not all(t.diagonal().all() for t in old):
        return [np.inf] * len(old)
    pairs = zip(old, new, strict=True)
    return [float(np.linalg.norm(solve_lower(a, b) - np.eye(len(a)))) for a, b in pairs]


def _size(K: Sequence[Array]) -> float:
    """Bound of |K|."""
    return max(float(np.linalg.norm(own)) for own in K)


def _by_blocks(gram: Gram, blocks: Sequence[Array], V: Array) -> Array:
    """B_j V by levels, shape (q, m)."""
    pairs = zip(blocks, by_levels(gram.shapes, V), strict=True)
    moved = [np.einsum("ab,lbm->lam", B, own) for B, own in pairs]
    return np.concatenate([own.reshape(-1, V.shape[1]) for own in moved])
