"""The definition of the linear mixed model, dense and slow, to be checked by eye.

    y = offset + X beta + sum_j Z_j b_j + eps
    b_j ~ N(0, sigma2 I (x) Sigma_j),   Sigma_j = T_j T_j',   eps ~ N(0, sigma2 W^-1)
    V = sigma2 H,   H = W^-1 + sum_j Z_j (I (x) Sigma_j) Z_j'

Everything follows from V; only `log_A`, `log_C` and `B` need the penalised system
A = Lambda'Z'WZ Lambda + I itself. Nothing divides by T_j: a singular T is as good as any.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.linalg import inv, slogdet

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Definition:
    """The model at one T with beta and sigma2 profiled out; tuples have one entry per factor."""

    deviance: float  # ML deviance or REML criterion, with lme4's constants
    beta: Array  # (p,)
    sigma2: float  # r2 / n under ML, r2 / (n - p) under REML
    r2: float  # min over u and beta of ||y - offset - X beta - Z Lambda u||_W^2 + ||u||^2
    log_A: float
    log_C: float
    a: tuple[Array, ...]  # (l_j, s_j): Z_j' H^-1 (y - offset - X beta)
    u: tuple[Array, ...]  # (l_j, s_j): spherical modes
    b: tuple[Array, ...]  # (l_j, s_j): conditional modes E(b_j | y)
    condvar: tuple[Array, ...]  # (l_j, s_j, s_j): Var(b_level | y), beta and sigma2 known
    B: tuple[Array, ...]  # (s_j, s_j): level sum of the blocks of A^-1 (ML), of C^-1 (REML)
    score_sigma: tuple[Array, ...]  # (s_j, s_j) symmetric G_j: d deviance = sum tr(G_j dSigma_j)
    score_T: tuple[Array, ...]  # (s_j, s_j) lower triangle: d deviance / d T_j
    directions: tuple[tuple[int, int, int], ...]  # (j, a, b), a >= b: rows of the next
    average_information: Array  # of -deviance / 2 in the entries of Sigma (see `unit`)
    cov_beta: Array  # (p, p)
    fitted: Array  # (n,): offset + X beta + Z b
    hat: Array  # (n,): d fitted_i / d y_i


def dense_z(codes: Array, Q: Array, n_levels: int) -> Array:
    """Z of one factor (n, n_levels * s): row i has Q[i] in the columns of level codes[i]."""
    return (np.eye(n_levels)[codes][:, :, None] * Q[:, None, :]).reshape(len(codes), -1)


def lower_from_theta(theta: Sequence[float], s: int) -> Array:
    """T (s, s) from its lower triangle written column by column."""
    T = np.zeros((s, s))
    T.T[np.triu_indices(s)] = theta
    return T


def unit(s: int, a: int, b: int) -> Array:
    """Symmetric unit matrix E_ab: ones at (a, b) and (b, a)."""
    E = np.zeros((s, s))
    E[a, b] = E[b, a] = 1
    return E


def repeat(M: Array, Z: Array) -> Array:
    """I (x) M with as many blocks as Z has levels."""
    return np.kron(np.eye(Z.shape[1] // len(M)), M)


def diagonal_blocks(M: Array, s: int) -> Array:
    """Diagonal s x s blocks of M, (levels, s, s)."""
    return np.array([M[i : i + s, i : i + s] for i in range(0, len(M), s)])


def minus_twice_loglik(y: Array, X: Array, V: Array, *, reml: bool) -> float:
    """-2 log-likelihood of y ~ N(X beta, V) at the best beta; REML: of the error contrasts."""
    XVX = X.T @ inv(V) @ X
    e = y - X @ inv(XVX) @ X.T @ inv(V) @ y
    dimension = len(y) - X.shape[1] * reml
    extra = slogdet(XVX)[1] if reml else 0.0
    return dimension * np.log(2 * np.pi) + slogdet(V)[1] + extra + e @ inv(V) @ e


def penalised(ZL: Array, X: Array, w: Array) -> tuple[Array, Array]:
    """A = Lambda'Z'WZ Lambda + I and C, which is A bordered by X."""
    K = np.hstack([ZL, X])
    C = (K.T * w) @ K + np.diag(np.repeat([1.0, 0.0], [ZL.shape[1], X.shape[1]]))
    return C[: ZL.shape[1], : ZL.shape[1]], C


def define(
    y: Array,
    X: Array,
    Z: Sequence[Array],
    T: Sequence[Array],
    *,
    weights: Array | None = None,
    offset: Array | None = None,
    reml: bool = True,
) -> Definition:
    """Everything the library computes at one T, from V.

    Parameters
    ----------
    y, X : (n,) and (n, p) of full rank
    Z : dense (n, l_j * s_j) per factor, level by level (see `dense_z`)
    T : (s_j, s_j) per factor; block-diagonal where several terms share the factor
    weights, offset : (n,) or None
    """
    n, p = X.shape
    nu = n - p * reml
    w = np.ones(n) if weights is None else np.asarray(weights, float)
    offset = np.zeros(n) if offset is None else np.asarray(offset, float)
    size = [len(t) for t in T]

    G = [repeat(t @ t.T, z) for t, z in zip(T, Z, strict=True)]
    H = np.diag(1 / w) + sum(z @ g @ z.T for z, g in zip(Z, G, strict=True))
    Hi = inv(H)
    XHXi = inv(X.T @ Hi @ X)
    P = Hi - Hi @ X @ XHXi @ X.T @ Hi
    beta = XHXi @ X.T @ Hi @ (y - offset)
    Py = Hi @ (y - offset - X @ beta)
    r2 = (y - offset) @ Py
    sigma2 = r2 / nu
    a = [(z.T @ Py).reshape(-1, s) for z, s in zip(Z, size, strict=True)]
    b = [(g @ z.T @ Py).reshape(-1, s) for g, z, s in zip(G, Z, size, strict=True)]

    A, C = penalised(np.hstack([z @ repeat(t, z) for z, t in zip(Z, T, strict=True)]), X, w)
    inverse = inv(C) if reml else inv(A)
    cuts = np.cumsum([0, *(z.shape[1] for z in Z)])

    M = P if reml else Hi  # d log-determinants / d H

    def dH(j: int, E: Array) -> Array:
        return Z[j] @ repeat(E, Z[j]) @ Z[j].T

    def slope(j: int, E: Array) -> float:
        return np.trace(M @ dH(j, E)) - Py @ dH(j, E) @ Py / sigma2

    def gradient(j: int, s: int) -> Array:
        rows = [[slope(j, unit(s, k, m)) / (1 + (k != m)) for m in range(s)] for k in range(s)]
        return np.array(rows)

    score = [gradient(j, s) for j, s in enumerate(size)]
    directions = [(j, k, m) for j, s in enumerate(size) for m in range(s) for k in range(m, s)]
    F = np.column_stack([dH(j, unit(size[j], k, m)) @ Py for j, k, m in directions])
    AI = (F.T @ P @ F / sigma2 - np.outer(F.T @ Py, F.T @ Py) / (nu * sigma2**2)) / 2

    return Definition(
        deviance=minus_twice_loglik(y - offset, X, sigma2 * H, reml=reml),
        beta=beta,
        sigma2=sigma2,
        r2=r2,
        log_A=slogdet(A)[1],
        log_C=slogdet(C)[1],
        a=tuple(a),
        u=tuple(aj @ t for aj, t in zip(a, T, strict=True)),
        b=tuple(b),
        condvar=tuple(
            sigma2 * diagonal_blocks(g - g @ z.T @ Hi @ z @ g, s)
            for g, z, s in zip(G, Z, size, strict=True)
        ),
        B=tuple(
            diagonal_blocks(inverse[i:k, i:k], s).sum(axis=0)
            for i, k, s in zip(cuts, cuts[1:], size, strict=False)
        ),
        score_sigma=tuple(score),
        score_T=tuple(np.tril(2 * g @ t) for g, t in zip(score, T, strict=True)),
        directions=tuple(directions),
        average_information=AI,
        cov_beta=sigma2 * XHXi,
        fitted=offset + X @ beta + sum(z @ bj.ravel() for z, bj in zip(Z, b, strict=True)),
        hat=1 - np.diag(P) / w,
    )
