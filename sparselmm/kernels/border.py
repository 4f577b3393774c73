"""Small designs around their leading factor: what one theta needs, for one response after the other.

Factor 0 leads and is block-diagonal, one s x s block per level; everything else, the other factors and X, is its
dense border of n_b columns. With C = [[A11, A1b], [Ab1, Abb]] the penalised matrix bordered by X,

    A11_l = L_l L_l',   G_l = L_l^-1 A1b_l,   F_l = L_l^-T G_l,   S = Abb - sum_l G_l'G_l,   K = S^-1
    C^-1:  [l, l] = A11_l^-1 + F_l K F_l'     [l, m] = F_l K F_m'     [l, b] = -F_l K     [b, b] = K

`eliminate` gives the value and the estimates, `gather` the sums over levels that `sparselmm.refits.small` turns into
gradient and Hessian. Plain loops: at these sizes a call of LAPACK costs more than the work.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from sparselmm._types import Array
from sparselmm.kernels.compile import INNER, OUTER

# Sums may be taken in any order, so that they vectorise; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract"}
outer, inner = njit(**OUTER, fastmath=FAST), njit(**INNER, fastmath=FAST)


class Border(NamedTuple):
    """A small design; its factors are renumbered so that 0 leads.

    Attributes
    ----------
    D : ndarray, shape (l, s, s)
        Z_1'WZ_1.
    C : ndarray, shape (l, s, n_b)
        Z_1'W[Z_2 X].
    A : ndarray, shape (n_b, n_b)
        [Z_2 X]'W[Z_2 X].
    factors : ndarray of int64, shape (k, 3)
        Levels, coefficients per level and first border column of every factor (0 for the leading one).
    owner : ndarray of int64, shape (m,)
        Factor of every theta.
    pairs : ndarray, shape (m, s_max, s_max)
        S_i = B_i + B_i', padded with zeros.
    n_Z : int
        Border columns that are random effects; the rest are X.
    """

    D: Array
    C: Array
    A: Array
    factors: Array
    owner: Array
    pairs: Array
    n_Z: int


@inner
def factor_in_place(M, order):
    """Lower Cholesky factor of the leading square of M in place; its log-determinant, NaN where not definite."""
    logdet = 0.0
    for i in range(order):
        for j in range(i + 1):
            total = M[i, j]
            for k in range(j):
                total -= M[i, k] * M[j, k]
            M[i, j] = total / M[j, j] if i > j else np.sqrt(total)
        logdet += 2.0 * np.log(M[i, i])
    return logdet


@inner
def inverse_from_factor(L, order, K):
    """K = (L L')^-1 on the leading square of the given order, by rows: first L^-1, then its product."""
    for i in range(order):
        for c in range(i):
            K[i, c] = 0.0
        K[i, i] = 1.0 / L[i, i]
        for k in range(i):
            share = L[i, k] / L[i, i]
            for c in range(k + 1):
                K[i, c] -= share * K[k, c]
    for a in range(order):
        for c in range(a + 1):
            K[c, a] = K[a, c]
    for a in range(order):
        for c in range(a + 1):
            total = 0.0
            for i in range(a, order):
                total += K[a, i] * K[c, i]
            K[a, c] = total
    for a in range(order):
        for c in range(a):
            K[c, a] = K[a, c]


@inner
def scale_columns(factors, T, row, room):
    """T_2'r in place for a vector r over the border: the columns of every factor by its T; room is (s_max,)."""
    for f in range(1, len(factors)):
        s = factors[f, 1]
        if s == 1:
            for first in range(factors[f, 2], factors[f, 2] + factors[f, 0]):
                row[first] *= T[f, 0, 0]
            continue
        for first in range(factors[f, 2], factors[f, 2] + factors[f, 0] * s, s):
            for a in range(s):
                room[a] = row[first + a]
            for b in range(s):
                total = 0.0
                for a in range(s):
                    total += room[a] * T[f, a, b]
                row[first + b] = total


@inner
def scale_corner(border, T, S, room):
    """S = T_2'[Z_2 X]'W[Z_2 X]T_2 + I (no identity for X)."""
    n_b = len(S)
    for i in range(n_b):
        for j in range(n_b):
            S[i, j] = border.A[i, j]
        scale_columns(border.factors, T, S[i], room)
    for i in range(n_b):
        for j in range(i):
            S[i, j], S[j, i] = S[j, i], S[i, j]
    for i in range(n_b):
        scale_columns(border.factors, T, S[i], room)
        if i < border.n_Z:
            S[i, i] += 1.0


@inner
def eliminate_level(D, t, c, L, G, g, room):
    """L L' = t'D t + I, G = L^-1 t'G in place, g = L^-1 t'c for one level; log|L L'| and g'g."""
    s, n_b = G.shape
    square = 0.0
    for a in range(s):
        for b in range(a + 1):
            total = 1.0 if a == b else 0.0
            for i in range(s):
                for j in range(s):
                    total += t[i, a] * D[i, j] * t[j, b]
            L[a, b] = total
    logdet = factor_in_place(L, s)
    for a in range(s):
        g[a] = 0.0
        for i in range(s):
            g[a] += t[i, a] * c[i]
        for b in range(a):
            g[a] -= L[a, b] * g[b]
        g[a] /= L[a, a]
        square += g[a] ** 2
    if s == 1:
        for column in range(n_b):
            G[0, column] *= t[0, 0] / L[0, 0]
        return logdet, square
    for column in range(n_b):
        for i in range(s):
            room[i] = G[i, column]
        for a in range(s):
            total = 0.0
            for i in range(s):
                total += t[i, a] * room[i]
            for b in range(a):
                total -= L[a, b] * G[b, column]
            G[a, column] = total / L[a, a]
    return logdet, square


@outer
def eliminate(border, nu, reml, rows, T, C1, CB, YY, L, G, g, K, estimates):
    """Deviance and estimates of some responses, each at its own T.

    Parameters
    ----------
    border : Border
    nu : int
        n - p (REML) or n (ML).
    reml : bool
    rows : ndarray of int64
        Which of the R responses.
    T : ndarray, shape (rows, k, s_max, s_max)
    C1 : ndarray, shape (R, l, s)
        Z_1'Wy.
    CB : ndarray, shape (R, n_b)
        [Z_2 X]'Wy.
    YY : ndarray, shape (R,)
        y'Wy.
    L, G, g : ndarray, shapes (R, l, s, s), (R, l, s, n_b), (R, l, s)
        Overwritten by the leading factor's part of the Cholesky factor.
    K : ndarray, shape (R, 2, n_b, n_b)
        Overwritten by S^-1, and by the same without X (ML) or once more (REML).
    estimates : ndarray, shape (R, n_b + 2)
        Overwritten by the spherical random effects of the border, the fixed effects, s2 and the deviance
        without the constants of weights and coordinates (NaN where C is not positive definite).
    """
    levels, s, n_b = border.C.shape
    S, rhs, room = np.empty((n_b, n_b)), np.empty(n_b), np.empty(border.pairs.shape[1])
    for place, r in enumerate(rows):
        t = T[place]
        scale_corner(border, t, S, room)
        for i in range(n_b):
            rhs[i] = CB[r, i]
        scale_columns(border.factors, t, rhs, room)
        logdet, r2 = 0.0, YY[r]
        for l in range(levels):
            panel = G[r, l]
            for a in range(s):
                for i in range(n_b):
                    panel[a, i] = border.C[l, a, i]
                scale_columns(border.factors, t, panel[a], room)
            more, square = eliminate_level(
                border.D[l], t[0], C1[r, l], L[r, l], panel, g[r, l], room
            )
            logdet += more
            r2 -= square
            for a in range(s):
                for i in range(n_b):
                    rhs[i] -= panel[a, i] * g[r, l, a]
                    for j in range(i + 1):
                        S[i, j] -= panel[a, i] * panel[a, j]
        whole = factor_in_place(S, n_b)
        for j in range(n_b if reml else border.n_Z):
            logdet += 2.0 * np.log(S[j, j])
        inverse_from_factor(S, n_b, K[r, 0])
        if reml:
            for i in range(n_b):
                for j in range(n_b):
                    K[r, 1, i, j] = K[r, 0, i, j]
        else:
            inverse_from_factor(S, border.n_Z, K[r, 1])
        for i in range(n_b):
            estimates[r, i] = 0.0
            for j in range(n_b):
                estimates[r, i] += K[r, 0, i, j] * rhs[j]
            r2 -= rhs[i] * estimates[r, i]
        estimates[r, n_b] = r2 / nu
        estimates[r, n_b + 1] = logdet + nu * (1.0 + np.log(2.0 * np.pi * r2 / nu)) + 0.0 * whole


@inner
def finish_level(L, G, g, K, x, J, Q, X):
    """F_l and u_l in place of G_l and g_l; J = I - A11_l^-1, X = F_l K F_l', Q = J - X."""
    s, n_b = G.shape
    for a in range(s - 1, -1, -1):
        for b in range(a + 1, s):
            g[a] -= L[b, a] * g[b]
            for c in range(n_b):
                G[a, c] -= L[b, a] * G[b, c]
        g[a] /= L[a, a]
        for c in range(n_b):
            G[a, c] /= L[a, a]
    inverse_from_factor(L, s, J)
    for a in range(s):
        for b in range(a + 1):
            total = 0.0
            for i in range(n_b):
                dot = 0.0
                for j in range(n_b):
                    dot += K[i, j] * G[b, j]
                total += G[a, i] * dot
            J[a, b] = J[b, a] = (1.0 if a == b else 0.0) - J[a, b]
            X[a, b] = X[b, a] = total
            Q[a, b] = Q[b, a] = J[a, b] - total
    for a in range(s):
        for i in range(n_b):
            g[a] -= G[a, i] * x[i]


@inner
def add_level(s, u, J, Q, X, second, fourth):
    """Add one level to the sums of its factor (see `gather`)."""
    for a in range(s):
        for b in range(s):
            second[0, a, b] += Q[a, b]
            second[1, a, b] += u[a] * u[b]
            for c in range(s):
                for d in range(s):
                    fourth[0, a, b, c, d] += Q[b, c] * Q[d, a] - X[b, c] * X[d, a]
                    fourth[1, a, b, c, d] += u[a] * J[b, c] * u[d]


@outer
def gather(border, rows, L, G, g, K, estimates, second, fourth, N, f):
    """Sums over levels that make gradient and Hessian, from what `eliminate` left.

    Parameters
    ----------
    border, rows, L, G, g, K, estimates : see `eliminate`; G and g are overwritten by F_l and u_l
    second : ndarray, shape (rows, k, 2, s_max, s_max)
        To it are added sum_l Q_l and sum_l u_l u_l'.
    fourth : ndarray, shape (rows, k, 2, s_max, s_max, s_max, s_max)
        sum_l Q_bc Q_da - X_bc X_da and sum_l u_a J_bc u_d.
    N : ndarray, shape (rows, m, n_b, n_b)
        N_i.
    f : ndarray, shape (rows, m, n_b)
        f_i.
    """
    levels, s, _ = border.C.shape
    t = border.pairs.shape[1]
    J, Q, X = np.zeros((t, t)), np.zeros((t, t)), np.zeros((t, t))
    for place, r in enumerate(rows):
        for l in range(levels):
            finish_level(L[r, l], G[r, l], g[r, l], K[r, 1], estimates[r], J, Q, X)
            add_level(s, g[r, l], J, Q, X, second[place, 0], fourth[place, 0])
            project_level(border, G[r, l], g[r, l], N[place], f[place])
        for q in range(1, len(border.factors)):
            size, start = border.factors[q, 1], border.factors[q, 2]
            for first in range(start, start + border.factors[q, 0] * size, size):
                for a in range(size):
                    for b in range(size):
                        J[a, b] = 1.0 if a == b else 0.0
                        X[a, b] = K[r, 1, first + a, first + b]
                        Q[a, b] = J[a, b] - X[a, b]
                u = estimates[r, first : first + size]
                add_level(size, u, J, Q, X, second[place, q], fourth[place, q])
                place_level(border, q, first, u, N[place], f[place])


@inner
def project_level(border, F, u, N, f):
    """Add F_l'S_i F_l to N_i and F_l'S_i u_l to f_i, for the leading factor's directions."""
    s, n_b = F.shape
    for i in range(len(border.owner)):
        if border.owner[i] == 0:
            for a in range(s):
                for b in range(s):
                    value = border.pairs[i, a, b]
                    if value != 0.0:
                        for r in range(n_b):
                            f[i, r] += value * F[a, r] * u[b]
                            for c in range(n_b):
                                N[i, r, c] += value * F[a, r] * F[b, c]


@inner
def place_level(border, factor, first, u, N, f):
    """Put S_i on a level's columns of N_i and take S_i u from f_i, for a border factor's directions."""
    for i in range(len(border.owner)):
        if border.owner[i] == factor:
            for a in range(len(u)):
                for b in range(len(u)):
                    N[i, first + a, first + b] = border.pairs[i, a, b]
                    f[i, first + a] -= border.pairs[i, a, b] * u[b]
