"""Sub-models from the cross-products: random-effects terms, or columns of them, left out.

For a term with internal coordinates Q~ = Q R^-1 and kept columns k, R[:, k] = M L with orthonormal M and lower
triangular L (diagonal where R is), so that the kept columns have internal coordinates Q_k L^-1 = Q~ M: the smaller
Gram has the blocks M'Z~'WZ~ M, and no row is looked at again. A term that loses its correlations has a diagonal L.
Columns that are kept as their sum, the levels of a factor as one intercept, have the sum of their columns of R.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from sparselmm._types import Array, RandomTerm
from sparselmm.basis import block_diagonal
from sparselmm.covariance.model import CovarianceModel, covariance_model
from sparselmm.fit import Fit
from sparselmm.gram import CrossBlock, Gram
from sparselmm.linalg import cholesky_lower, solve_lower
from sparselmm.optimise import minimise
from sparselmm.optimum import Optimum
from sparselmm.problem import Problem
from sparselmm.systems.choose import choose

Kept = Sequence[int | tuple[int, ...]]  # columns, and columns that become one


@dataclass(frozen=True, slots=True)
class Reduced:
    """A smaller model on the same rows.

    Attributes
    ----------
    terms : tuple of RandomTerm
        What is left.
    gram : Gram
    problem : Problem or None
        None when no random effects are left.
    start : ndarray, shape (n_theta,)
        Internal theta of the larger fit, cut down.
    maps : tuple of (int, ndarray)
        Per factor left: which factor it was, and M of the module's formula.
    """

    terms: tuple[RandomTerm, ...]
    gram: Gram
    problem: Problem | None
    start: Array
    maps: tuple[tuple[int, Array], ...]

    @property
    def n_theta(self) -> int:
        """Covariance parameters left."""
        return len(self.start)

    def minimise(self, tolerance: float = 1e-10) -> Optimum:
        """Its optimum, from the larger model's theta."""
        assert self.problem is not None
        return minimise(self.problem, self.start, tolerance=tolerance)

    def factors(self, fit: Fit, optimum: Optimum | None) -> list[Array]:
        """T~ of the larger model at this one's optimum, internal coordinates: zero for the effects left out."""
        T = [np.zeros((s, s)) for _, s in fit.gram.shapes]
        if optimum is not None:
            for (factor, M), small in zip(self.maps, optimum.solution.T, strict=True):
                T[factor] = _lower(M @ small)
        return T

    def deviance(self, *, reml: bool, tolerance: float = 1e-10) -> float:
        """Its smallest deviance."""
        if self.problem is None:
            return linear_deviance(self.gram, reml=reml)
        return self.minimise(tolerance).solution.deviance


def reduce_fit(
    fit: Fit,
    dropped: Sequence[tuple[int, int]],
    *,
    reml: bool | None = None,
    uncorrelated: Sequence[int] = (),
    merged: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
) -> Reduced:
    """The model without some columns of its random-effects terms.

    Parameters
    ----------
    fit : Fit
    dropped : sequence of (int, int)
        Term and column within the term.
    reml : bool, optional
        Criterion of the smaller model; that of the fit by default.
    uncorrelated : sequence of int
        Terms that lose their correlations.
    merged : mapping of int to tuple of int
        Per term the columns, indicators of all levels, that become one intercept.
    """
    kept = [
        kept_columns(len(term.columns), [c for i, c in dropped if i == t], merged.get(t, ()))
        for t, term in enumerate(fit.spec.terms)
    ]
    gram, terms, maps = reduce_gram(fit.gram, fit.spec.terms, kept, uncorrelated)
    if not terms:
        return Reduced((), gram, None, np.empty(0), ())
    model = covariance_model(terms, [s for _, s in gram.shapes])
    system = choose(gram).system
    start = _start(fit, gram, terms, kept, model)
    problem = Problem(gram, system, model, fit.reml if reml is None else reml)
    return Reduced(terms, gram, problem, start, maps)


def kept_columns(size: int, dropped: Sequence[int], merged: tuple[int, ...] = ()) -> Kept:
    """What stays of a term's columns; those that are merged come first."""
    gone = {*dropped, *merged}
    own: Kept = [c for c in range(size) if c not in gone]
    return [merged, *own] if merged else own


def _selected(R: Array, columns: Kept) -> Array:
    """Columns of R, the merged ones added up."""
    return np.stack(
        [R[:, list(c)].sum(axis=1) if isinstance(c, tuple) else R[:, c] for c in columns], axis=1
    )


def _names(term: RandomTerm, columns: Kept) -> tuple[str, ...]:
    return tuple("Intercept" if isinstance(c, tuple) else term.columns[c] for c in columns)


def reduce_gram(
    gram: Gram,
    terms: Sequence[RandomTerm],
    kept: Sequence[Kept],
    uncorrelated: Sequence[int] = (),
) -> tuple[Gram, tuple[RandomTerm, ...], tuple[tuple[int, Array], ...]]:
    """Cross-products, terms and maps that remain when every term keeps only the columns listed.

    Parameters
    ----------
    gram : Gram
    terms : sequence of RandomTerm
    kept : sequence of sequence of int or tuple of int
        Per term the columns that stay, those that become one as a tuple; empty to drop the term.
    uncorrelated : sequence of int
        Terms that become diagonal.
    """
    factors = sorted({t.factor for t, own in zip(terms, kept, strict=True) if len(own)})
    maps, scales, left = [], [], {}
    for new, j in enumerate(factors):
        own = [(t.start, i) for i, t in enumerate(terms) if t.factor == j and len(kept[i])]
        pieces, at = [], 0
        for _, i in sorted(own):
            term, columns = terms[i], list(kept[i])
            if i in uncorrelated:
                term = replace(term, template="diagonal")
            R = gram.basis.Rq[j][term.start : term.stop, term.start : term.stop]
            split = _stretch if i in uncorrelated else _split
            pieces.append((term, *split(_selected(R, columns))))
            left[i] = replace(
                term,
                columns=_names(term, columns),
                label=_label(term, columns),
                factor=new,
                start=at,
            )
            at += len(columns)
        M, at = np.zeros((len(gram.basis.Rq[j]), at)), 0
        for term, O, L in pieces:
            M[term.start : term.stop, at : at + len(L)] = O
            at += len(L)
        maps.append(M)
        scales.append(block_diagonal([L for _, _, L in pieces]))
    cross = {}
    for a, i in enumerate(factors):
        for b in range(a + 1, len(factors)):
            block = gram.cross[i, factors[b]]
            values = np.ascontiguousarray(maps[a].T @ block.values @ maps[b])
            cross[a, b] = CrossBlock(block.indptr, block.indices, values)
    reduced = replace(
        gram,
        ZtZ=tuple(
            np.ascontiguousarray(M.T @ gram.ZtZ[j] @ M) for j, M in zip(factors, maps, strict=True)
        ),
        cross=cross,
        ZtXy=tuple(
            np.ascontiguousarray(M.T @ gram.ZtXy[j]) for j, M in zip(factors, maps, strict=True)
        ),
        basis=replace(gram.basis, Rq=tuple(scales)),
    )
    terms_left = tuple(left[i] for i in sorted(left))
    return reduced, terms_left, tuple(zip(factors, maps, strict=True))


def _split(R: Array) -> tuple[Array, Array]:
    """Orthonormal M and lower triangular L with R = M L."""
    Q, upper = np.linalg.qr(R[:, ::-1])
    M, L = Q[:, ::-1], upper[::-1, ::-1]
    sign = np.where(np.diag(L) < 0.0, -1.0, 1.0)
    return M * sign, L * sign[:, None]


def _stretch(R: Array) -> tuple[Array, Array]:
    """M with columns of length 1, and diagonal L, with R = M L: the coordinates of uncorrelated effects."""
    lengths = np.linalg.norm(R, axis=0)
    return R / lengths, np.diag(lengths)


def _lower(T: Array) -> Array:
    """A square lower triangular factor of T T'."""
    s = len(T)
    if T.shape == (s, s) and not np.triu(T, 1).any():
        return T
    padded = np.hstack([T, np.zeros((s, max(s - T.shape[1], 0)))])
    lower = np.asarray(np.linalg.qr(padded.T, mode="r")).T
    return lower * np.where(np.diag(lower) < 0.0, -1.0, 1.0)


def _label(term: RandomTerm, columns: Kept) -> str:
    """The text of a term that keeps some of its columns."""
    if len(columns) == len(term.columns):
        return term.label
    names = _names(term, columns)
    left = ["1" if name == "Intercept" else name for name in names]
    if names[0] != "Intercept":
        left.insert(0, "0")
    bar = " || " if term.template == "diagonal" and len(names) > 1 else " | "
    return " + ".join(left) + bar + term.grouping


def _start(fit: Fit, gram: Gram, terms, kept, model: CovarianceModel) -> Array:
    """Internal theta of the columns that stay, with their covariance in the larger fit."""
    T = [np.zeros((s, s)) for _, s in gram.shapes]
    staying = [(i, columns) for i, columns in enumerate(kept) if len(columns)]
    for term, (i, columns) in zip(terms, staying, strict=True):
        full = fit.model.block(fit.T, fit.model.parts[i])
        block = np.stack(
            [full[list(c)].mean(axis=0) if isinstance(c, tuple) else full[c] for c in columns]
        )
        diagonal = term.template == "diagonal"
        lower = np.diag(np.linalg.norm(block, axis=1)) if diagonal else _lower(block)
        T[term.factor][term.start : term.stop, term.start : term.stop] = lower
    return model.theta([gram.basis.internal_factor(j, t) for j, t in enumerate(T)])


def linear_deviance(gram: Gram, *, reml: bool) -> float:
    """Minus twice the log (restricted) likelihood of the model without random effects."""
    p, n = gram.p, gram.n
    L = cholesky_lower(gram.XytXy[:p, :p])
    half = solve_lower(L, gram.XytXy[:p, p])
    r2 = float(gram.XytXy[p, p] - half @ half)
    nu = n - p if reml else n
    deviance = nu * (1.0 + np.log(2.0 * np.pi * r2 / nu)) - gram.sum_log_weights
    if reml:
        deviance += 2.0 * float(np.log(np.diag(L)).sum()) + 2.0 * gram.basis.logdet_Rx
    return float(deviance)
