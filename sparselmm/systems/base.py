"""What every path answers, and how the leading factor's part and the Schur complement are put together.

A `Store` holds the Schur complement S of one design; at a theta it gives a `SchurFactor`. `System.at` joins it
with the leading factor's blocks to `Factored`, which answers for the whole penalised matrix A. Nothing in a
store knows about theta, models or likelihoods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels.blockchol import level_kernels
from sparselmm.systems.leading import Leading
from sparselmm.tall import tall_product
from sparselmm.threads import SMALLEST_RANGE, over_range, sum_over_range


class SchurFactor(Protocol):
    """A factorised Schur complement S of order n_S."""

    @property
    def logdet(self) -> float:
        """log|S|."""
        ...

    def solve(self, R: Array) -> Array:
        """S^-1 R for R of shape (n_S, m)."""
        ...

    def inverse(self) -> SchurInverse:
        """S^-1 where it is needed."""
        ...


class SchurInverse(Protocol):
    """S^-1 on its diagonal blocks and between partners of a leading level."""

    def diagonal_blocks(self) -> tuple[Array, ...]:
        """Per rest factor the diagonal blocks of S^-1, shape (l_j, s_j, s_j)."""
        ...

    def partner_forms(self) -> Array:
        """G_l S^-1 G_l' for every leading level, shape (l_1, s_1, s_1)."""
        ...


class Store(Protocol):
    """Where S is kept: block-diagonal, dense or sparse."""

    @property
    def name(self) -> str:
        """The path's name."""
        ...

    def factor(self, G: Array, A22: Array) -> SchurFactor:
        """Factorise S = A22 - L21 L21'.

        Parameters
        ----------
        G : ndarray, shape (nnz, s_1)
            L21 on the pattern of the leading factor's partners.
        A22 : ndarray
            Lower triangle of A22 on its pattern.
        """
        ...


@dataclass(frozen=True, slots=True)
class Factored:
    """The Cholesky factor of A at one theta; a coefficient vector runs factor by factor, level by level.

    Attributes
    ----------
    logdet : float
        log|A|.
    """

    logdet: float
    leading: Leading
    L11: Array
    G: Array
    schur: SchurFactor

    def solve(self, R: Array) -> Array:
        """A^-1 R for R of shape (q, m)."""
        lead, kernels = self.leading, level_kernels(self.L11.shape[1])
        W, R2 = self._down(R)
        X2 = self.schur.solve(R2)
        over_range(kernels.backward, len(self.L11), self.L11, lead.indptr, lead.cols, self.G, X2, W)
        return join(lead, W, X2)

    def form(self, R: Array) -> Array:
        """R'A^-1 R for R of shape (q, m): half a solve with the leading factor."""
        W, R2 = self._down(R)
        rows = W.reshape(-1, R.shape[1])
        return tall_product(rows, rows) + R2.T @ self.schur.solve(R2)

    def _down(self, R: Array) -> tuple[Array, Array]:
        """W = L11^-1 R1, shape (l_1, s_1, m), and R2 - L21 W, shape (n_S, m)."""
        lead, kernels = self.leading, level_kernels(self.L11.shape[1])
        R1, R2 = split(lead, R)
        W = np.empty(R1.shape)
        over_range(kernels.forward, len(self.L11), self.L11, R1, W)
        if not lead.n_S:
            return W, R2

        def products(begin: int, end: int) -> Array:
            out = np.zeros(R2.shape)
            kernels.add_partners(begin, end, lead.indptr, lead.cols, self.G, W, out)
            return out

        worth = max(
            SMALLEST_RANGE, 2 * lead.n_S
        )  # levels, for the sum over ranges to be the lesser part
        return W, R2 - sum_over_range(products, len(W), smallest=worth)

    def inverse_blocks(self) -> tuple[Array, ...]:
        """Diagonal blocks of A^-1 of every factor, shape (l_j, s_j, s_j)."""
        lead = self.leading
        blocks: dict[int, Array] = {}
        if lead.n_S:
            inverse = self.schur.inverse()
            blocks.update(zip(lead.rest, inverse.diagonal_blocks(), strict=True))
            forms = inverse.partner_forms()
        else:
            forms = np.zeros_like(lead.D)
        over_range(level_kernels(forms.shape[1]).invert, len(forms), self.L11, forms)
        blocks[lead.index] = forms
        return tuple(blocks[j] for j in sorted(blocks))


@dataclass(frozen=True, slots=True)
class System:
    """The penalised system of one design, ready to be factorised at any theta.

    Attributes
    ----------
    leading : Leading
    store : Store
    """

    leading: Leading
    store: Store

    def at(self, T: Sequence[Array]) -> Factored:
        """Factorise A = Lambda'Z'WZ Lambda + I.

        Parameters
        ----------
        T : sequence of ndarray, shape (s_j, s_j)
            Relative covariance factors, lower triangular, one per factor.
        """
        lead = self.leading
        T1 = np.ascontiguousarray(T[lead.index])
        T_rest = [np.ascontiguousarray(T[j]) for j in lead.rest]
        kernels, levels = level_kernels(len(T1)), len(lead.D)
        L11, roots = np.empty(lead.D.shape), np.empty(levels)
        over_range(kernels.factor, levels, lead.D, T1, L11, roots)
        with np.errstate(invalid="ignore", divide="ignore"):  # a step too long ends it
            logdet = 2.0 * float(np.log(roots, out=roots).sum())
        if not lead.n_S:
            return Factored(logdet, lead, L11, np.empty((0, len(T1))), NO_SCHUR)
        G = np.empty((len(lead.cols), len(T1)))
        over_range(kernels.scale_panel, levels, L11, T1, lead.indptr, lead.panel(T_rest), G)
        schur = self.store.factor(G, lead.A22(T_rest))
        return Factored(logdet + schur.logdet, lead, L11, G, schur)


@dataclass(frozen=True, slots=True)
class _NoSchur:
    """The Schur complement of a single factor: empty."""

    logdet: float = 0.0

    def solve(self, R: Array) -> Array:
        return R

    def inverse(self) -> SchurInverse:
        raise AssertionError("a single factor leaves no Schur complement")


NO_SCHUR = _NoSchur()


def split(lead: Leading, R: Array) -> tuple[Array, Array]:
    """Leading part of shape (l_1, s_1, m) and the rest, shape (n_S, m)."""
    levels, s = lead.D.shape[:2]
    start = _leading_start(lead)
    stop = start + levels * s
    first = np.ascontiguousarray(R[start:stop]).reshape(levels, s, -1)
    if not lead.n_S:
        return first, np.empty((0, R.shape[1]))
    return first, np.concatenate([R[:start], R[stop:]])


def join(lead: Leading, first: Array, rest: Array) -> Array:
    """The inverse of `split`."""
    start = _leading_start(lead)
    flat = first.reshape(-1, first.shape[2])
    return np.concatenate([rest[:start], flat, rest[start:]]) if lead.n_S else flat


def _leading_start(lead: Leading) -> int:
    """Where the leading factor's coefficients begin: after the factors before it."""
    return sum(
        levels * s for j, (levels, s) in zip(lead.rest, lead.shapes, strict=True) if j < lead.index
    )
