"""Internal coordinates: what is subtracted and rotated before cross-products are taken.

y'y - … loses every digit when y is about 1e8 with standard deviation 1, and so does X'X when a column is about 1e6
with standard deviation 1. The cross-products are therefore taken of

    y~ = y - offset - X beta0        X~ = X R_x^-1 (nearly orthonormal)        Q~ = Q R_q^-1 (scaled, per term)

for *some* beta0, R_x and R_q: any choice is exact, a good one (least squares on the first batch) keeps the digits.
R_q is lower triangular for an unstructured term, diagonal for a diagonal one and a multiple of the identity for a
scalar one, so that T~ = R_q T has the template's form again and maps back by T = R_q^-1 T~.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparselmm._types import Array
from sparselmm.linalg import TINY, cholesky_lower
from sparselmm.tall import tall_product, wide_product

RANK_TOLERANCE = (
    1e-7  # a column is dropped when less than this share of its length is left: R's `qr`
)
WELL_CONDITIONED = 1e-2  # smallest pivot for which cross-products keep enough digits
CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Basis:
    """Maps between the user's coordinates and the internal ones.

    Attributes
    ----------
    kept : ndarray of int, shape (p,)
        Independent columns of X, earliest first.
    Rx : ndarray, shape (p, p)
        Upper triangular; X[:, kept] = X~ Rx.
    beta0 : ndarray, shape (p,)
        Fixed effects that were subtracted from y.
    Rq : tuple of ndarray, shape (s_j, s_j)
        Lower triangular, block-diagonal by term; Q_j = Q~_j Rq_j.
    """

    kept: Array
    Rx: Array
    beta0: Array
    Rq: tuple[Array, ...]

    @property
    def logdet_Rx(self) -> float:
        """log|det Rx|."""
        return float(np.log(np.abs(np.diag(self.Rx))).sum())

    def fixed(self, X: Array) -> Array:
        """X~ for the columns the model keeps."""
        return self._kept(X) @ np.linalg.inv(self.Rx)

    def response(self, X: Array, y: Array, offset: Array | None) -> Array:
        """y~."""
        shifted = y - self._kept(X) @ self.beta0
        return shifted if offset is None else shifted - offset

    def fixed_and_response(self, X: Array, y: Array, offset: Array | None) -> Array:
        """[X~ y~], shape (n, p + 1)."""
        columns = np.column_stack([np.linalg.inv(self.Rx), -self.beta0])
        return wide_product(self._kept(X), columns, y if offset is None else y - offset)

    def random(self, factor: int, Q: Array) -> Array:
        """Q~ of one factor."""
        R = self.Rq[factor]
        if R.shape == (1, 1) and R[0, 0] == 1.0:
            return Q
        return wide_product(Q, np.linalg.inv(R))

    def beta(self, beta: Array) -> Array:
        """The user's fixed effects from internal ones."""
        return self.beta0 + np.linalg.solve(self.Rx, beta)

    def cov_beta(self, cov: Array) -> Array:
        """The user's covariance matrix of the fixed effects from the internal one."""
        inverse = np.linalg.inv(self.Rx)
        return inverse @ cov @ inverse.T

    def user_factor(self, factor: int, T: Array) -> Array:
        """T from T~."""
        return np.tril(np.linalg.solve(self.Rq[factor], T))

    def internal_factor(self, factor: int, T: Array) -> Array:
        """T~ from T."""
        return self.Rq[factor] @ T

    def _kept(self, X: Array) -> Array:
        return X if len(self.kept) == X.shape[1] else X[:, self.kept]

    def equals(self, other: Basis) -> bool:
        """Whether both are the same coordinates; copies of one basis are."""
        mine, theirs = ((own.kept, own.Rx, own.beta0, *own.Rq) for own in (self, other))
        return len(mine) == len(theirs) and all(map(np.array_equal, mine, theirs))


def independent_columns(R: Array, tolerance: float = RANK_TOLERANCE) -> Array:
    """Indices of the earliest independent columns of a matrix with triangular factor `R`.

    Parameters
    ----------
    R : ndarray, shape (m, p)
        Any matrix with the same cross-products as the design.
    """
    rest = R.copy()
    lengths = np.linalg.norm(R, axis=0)
    kept = []
    for j in range(R.shape[1]):
        left = np.linalg.norm(rest[:, j])
        if left > tolerance * lengths[j]:
            kept.append(j)
            direction = rest[:, j] / left
            rest[:, j + 1 :] -= np.outer(direction, direction @ rest[:, j + 1 :])
    return np.array(kept, dtype=np.intp)


def triangular_factor(
    pieces: Sequence[Array], root_weights: Array | None = None, *, backwards: bool = False
) -> Array:
    """R with R'R = M'WM for a tall matrix M, upper triangular, shape (<= p, p).

    By the Cholesky factor of the cross-products where they are well conditioned, else by QR in chunks of rows.

    Parameters
    ----------
    pieces : sequence of ndarray, shape (n, p_i)
        M, side by side.
    root_weights : ndarray, shape (n,), or None
    backwards : bool
        Take the columns of M from the last to the first.
    """
    if root_weights is not None:
        pieces = [piece * root_weights[:, None] for piece in pieces]
    products = np.block([[tall_product(a, b) for b in pieces] for a in pieces])
    products = products[::-1, ::-1] if backwards else products
    lengths = np.sqrt(np.maximum(products.diagonal(), TINY))
    L = cholesky_lower(products / lengths / lengths[:, None])
    if L.diagonal().min(initial=1.0) > WELL_CONDITIONED:
        return L.T * lengths
    R = np.empty((0, len(products)))
    for start in range(0, len(pieces[0]), CHUNK):
        chunk = np.hstack([piece[start : start + CHUNK] for piece in pieces])
        R = qr_factor(np.vstack([R, chunk[:, ::-1] if backwards else chunk]))
    return R


def qr_factor(M: Array) -> Array:
    """R of the QR decomposition."""
    return np.asarray(np.linalg.qr(M, mode="r"))


def fixed_basis(X: Array, y: Array, root_weights: Array | None) -> tuple[Array, Array, Array]:
    """Kept columns, Rx and beta0 by least squares.

    Parameters
    ----------
    X : ndarray, shape (n, p)
    y : ndarray, shape (n,)
        The offset already subtracted.
    root_weights : ndarray, shape (n,), or None

    Returns
    -------
    kept, Rx, beta0
    """
    full = triangular_factor([X, y[:, None]], root_weights)
    kept = independent_columns(full[:, :-1])
    R = qr_factor(full[:, np.append(kept, X.shape[1])])
    p = len(kept)
    Rx = R[:p, :p] * np.sign(np.diag(R[:p, :p]))[:, None]
    beta0 = np.linalg.solve(R[:p, :p], R[:p, p]) if p else np.empty(0)
    return kept, Rx, beta0


def with_all_columns(basis: Basis, X: Array, weights: Array | None) -> Basis:
    """Coordinates that keep every column of X, though some depend on others in these rows.

    Parameters
    ----------
    basis : Basis
        Learned from these rows.
    X : ndarray, shape (n, p)
    weights : ndarray, shape (n,), or None
    """
    p, kept = X.shape[1], basis.kept
    if len(kept) == p:
        return basis
    WX = X if weights is None else X * weights[:, None]
    lengths = np.sqrt(np.einsum("ia,ia->a", X, WX))
    Rx = np.diag(np.where(lengths > 0.0, lengths, 1.0))
    own = basis.fixed(X).T @ WX
    Rx[kept] = np.where(kept[:, None] <= np.arange(p), own, 0.0)
    Rx[np.ix_(kept, kept)] = basis.Rx
    beta0 = np.zeros(p)
    beta0[kept] = basis.beta0
    return Basis(np.arange(p), Rx, beta0, basis.Rq)


def reduced_basis(basis: Basis, XtX: Array) -> tuple[Basis, Array]:
    """Coordinates of the earliest independent columns of X.

    Parameters
    ----------
    basis : Basis
        Keeps every column.
    XtX : ndarray, shape (p, p)
        X~'WX~ over all rows.

    Returns
    -------
    reduced : Basis
    M : ndarray, shape (p, columns kept)
        Its X~ are those of `basis` times M.
    """
    scale = np.sqrt(np.maximum(XtX.diagonal(), TINY))
    values, vectors = np.linalg.eigh(XtX / scale / scale[:, None])
    R = np.sqrt(np.maximum(values, 0.0))[:, None] * (vectors.T * scale) @ basis.Rx
    kept = independent_columns(R)
    Q, Rx = np.linalg.qr(R[:, kept])
    sign = np.sign(Rx.diagonal())
    beta0 = np.linalg.solve(Rx, Q.T @ (R @ basis.beta0))
    M = np.linalg.solve((Rx * sign[:, None]).T, basis.Rx[:, kept].T).T
    return Basis(kept, Rx * sign[:, None], beta0, basis.Rq), M


def term_basis(Q: Array, template: str, root_weights: Array | None) -> Array:
    """Rq of one term: the scale of its columns, as far as its template is invariant to it.

    An intercept is left alone; columns that are linearly dependent on each other are only scaled.
    """
    n, s = Q.shape
    if s == 1 and (Q[0, 0] == 1.0) and (Q == 1.0).all():
        return np.eye(1)
    R = triangular_factor([Q], root_weights, backwards=True)[:, ::-1] / np.sqrt(n)
    scale = np.linalg.norm(R, axis=0)
    scale[scale == 0.0] = 1.0
    if template == "scalar":
        return np.eye(s) * np.sqrt(np.mean(scale**2))
    if template == "diagonal" or len(independent_columns(R[:, ::-1])) < s:
        return np.diag(scale)
    lower = R[::-1]
    return lower * np.sign(np.diag(lower))[:, None]


def block_diagonal(blocks: Sequence[Array]) -> Array:
    """Square matrices along the diagonal."""
    size = sum(len(block) for block in blocks)
    out = np.zeros((size, size))
    at = 0
    for block in blocks:
        out[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return out
