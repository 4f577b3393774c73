"""What every path answers, and how the leading factor's part and the Schur complement are put together.

A `Store` holds the Schur complement S of one design; at a theta it gives a `SchurFactor`. `System.at` joins it
with the leading factor's blocks to `Factored`, which answers for the whole penalised matrix A. Nothing in a
store knows about theta, models or likelihoods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sparselmm._types import Array
from sparselmm.kernels.blockchol import level_kernels, sweep_kernels
from sparselmm.linalg import weighted_sum
from sparselmm.systems.leading import Leading
from sparselmm.tall import tall_product
from sparselmm.threads import SMALLEST_RANGE, map_range, over_range, sum_over_range


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


RUN = 16_384  # levels that stay in cache from one kernel to the next


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
        first, rest = split(self.leading, R)
        if self.leading.n_S and not first.any():  # nothing to take down
            return self._up(np.zeros_like(first), rest)[0]
        return self._solve(None, first, rest)[0]

    def solve_scaled(self, T: Sequence[Array], blocks: Sequence[Array]) -> tuple[Array, Array]:
        """V = A^-1 R and R'V for R = Lambda'B, with B (l_j, s_j, m) by factors; R itself is never whole."""
        lead = self.leading
        rest = [scaled(T[j], blocks[j]) for j in lead.rest]
        m = blocks[0].shape[2]
        R2 = np.concatenate(rest) if rest else np.empty((0, m))
        return self._solve(T[lead.index], blocks[lead.index], R2)

    def form(self, R: Array) -> Array:
        """R'A^-1 R for R of shape (q, m): half a solve with the leading factor."""
        first, rest = split(self.leading, R)
        squares, R2 = self._down(None, first, rest)
        return squares + R2.T @ self.schur.solve(R2)

    def _solve(self, T1: Array | None, B1: Array, R2: Array) -> tuple[Array, Array]:
        """A^-1 R and R'A^-1 R for R = (T_1'B_1, R_2); T_1 = I when None."""
        W = np.empty_like(B1)
        squares, R2 = self._down(T1, B1, R2, W)
        X, X2 = self._up(W, R2)
        return X, squares + R2.T @ X2

    def _up(self, W: Array, R2: Array) -> tuple[Array, Array]:
        """A^-1 R and its part outside of the leading factor, from L11^-1 R_1 (which is overwritten) and R_2 - L21 W."""
        lead, X2 = self.leading, self.schur.solve(R2)
        if lead.n_S:
            up = sweep_kernels(*W.shape[1:]).backward
            over_range(up, len(W), self.L11, lead.indptr, lead.cols, self.G, X2, W)
        return join(lead, W, X2), X2

    def _down(
        self, T1: Array | None, B1: Array, R2: Array, kept: Array | None = None
    ) -> tuple[Array, Array]:
        """W'W and R_2 - L21 W for W = L11^-1 T_1'B_1.

        Levels pass in runs that stay in cache. W goes to `kept`, if given; without a Schur complement the way back,
        L11^-T W, follows at once.
        """
        lead, (levels, s, m) = self.leading, B1.shape
        kernels = sweep_kernels(s, m)

        def sums(begin: int, end: int) -> tuple[Array, Array]:
            squares, moved = np.zeros((m, m)), np.zeros(R2.shape)
            room = np.empty((min(RUN, end - begin), s, m))
            for run in runs(begin, end):
                L, B, pointers = self.L11[run], B1[run], lead.indptr[run.start : run.stop + 1]
                W = room[: len(B)] if kept is None else kept[run]
                if T1 is not None:
                    kernels.apply_transpose(0, len(B), T1, B, W)
                kernels.forward(0, len(B), L, B if T1 is None else W, W)
                flat = W.reshape(-1, m)
                squares += tall_product(flat, flat)
                if lead.n_S:
                    kernels.add_partners(0, len(B), pointers, lead.cols, self.G, W, moved)
                elif kept is not None:
                    kernels.backward(0, len(B), L, pointers, lead.cols, self.G, R2, W)
            return squares, moved

        # So many levels a range that the sums over ranges are the lesser part.
        found = map_range(sums, levels, max(SMALLEST_RANGE, 2 * lead.n_S))
        squares, moved = (np.sum([pair[i] for pair in found], axis=0) for i in range(2))
        return squares, R2 - moved

    def inverse_blocks(self) -> tuple[Array, ...]:
        """Diagonal blocks of A^-1 of every factor, shape (l_j, s_j, s_j)."""
        rest, forms = self._schur_inverse()
        blocks = np.zeros_like(self.L11) if forms is None else forms
        over_range(level_kernels(blocks.shape[1]).invert, len(blocks), self.L11, blocks)
        return self._in_order(blocks, rest)

    def inverse_sums(self) -> tuple[Array, ...]:
        """Sums over levels of the diagonal blocks, shape (s_j, s_j)."""
        rest, forms = self._schur_inverse()
        invert = level_kernels(self.L11.shape[1]).invert

        def total(begin: int, end: int) -> Array:
            out = np.zeros(self.L11.shape[1:])
            for run in runs(begin, end):
                L = self.L11[run]
                block = np.zeros_like(L) if forms is None else forms[run]
                invert(0, len(L), L, block)
                out += weighted_sum(block)
            return out

        own = sum_over_range(total, len(self.L11))
        return self._in_order(own, [weighted_sum(blocks) for blocks in rest])

    def _schur_inverse(self) -> tuple[Sequence[Array], Array | None]:
        """Diagonal blocks of S^-1 of the rest factors and G_l S^-1 G_l' (None: all zero)."""
        if not self.leading.n_S:
            return (), None
        inverse = self.schur.inverse()
        return inverse.diagonal_blocks(), inverse.partner_forms()

    def _in_order(self, leading: Array, rest: Sequence[Array]) -> tuple[Array, ...]:
        """What belongs to the leading factor, put between what belongs to the others."""
        at = self.leading.index
        return (*rest[:at], leading, *rest[at:])


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

        def logs(begin: int, end: int) -> float:
            kernels.factor(begin, end, lead.D, T1, L11, roots)
            with np.errstate(invalid="ignore", divide="ignore"):  # a step too long ends it
                return float(np.log(roots[begin:end]).sum())

        logdet = 2.0 * sum_over_range(logs, levels)
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


def runs(begin: int, end: int) -> Iterator[slice]:
    """Levels begin to end, some thousands at a time."""
    for first in range(begin, end, RUN):
        yield slice(first, min(first + RUN, end))


def scaled(T: Array, block: Array) -> Array:
    """T'B_l by levels, as rows of Lambda'B: shape (l s, m)."""
    out = np.empty(block.shape)
    over_range(sweep_kernels(*block.shape[1:]).apply_transpose, len(block), T, block, out)
    return out.reshape(-1, block.shape[2])


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
