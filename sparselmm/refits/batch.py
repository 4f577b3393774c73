"""Many responses on one design: only Z'y, X'y and y'y change, so nothing else is computed twice.

Small designs descend side by side (`sparselmm.refits.lockstep`); what does not end with a certificate there, and every
larger design, goes through `sparselmm.optimise.minimise`, which finds the same optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import ConvergenceError
from sparselmm.gram import Gram
from sparselmm.kernels.border import Border
from sparselmm.optimise import make_scale, minimise
from sparselmm.optimum import Outcome
from sparselmm.problem import Problem
from sparselmm.refits.lockstep import descend
from sparselmm.refits.small import Small, bytes_per_response, workspace
from sparselmm.systems.leading import choose_leading
from sparselmm.threads import over_range

SMALL = 3e6  # operations per evaluation up to which that beats the general path
TOLERANCE = 1e-12
MEMORY = 50_000_000  # bytes that descents side by side may take
SHARE = 64  # responses that a thread should have at the least


@dataclass(frozen=True, slots=True)
class Responses:
    """Cross-products of R responses with one design, in the design's internal coordinates.

    Attributes
    ----------
    ZtY : tuple of ndarray, shape (R, l_j, s_j)
        Z_j'Wy.
    XtY : ndarray, shape (R, p)
        X'Wy.
    yty : ndarray, shape (R,)
        y'Wy.
    """

    ZtY: tuple[Array, ...]
    XtY: Array
    yty: Array

    def __len__(self) -> int:
        return len(self.yty)

    def take(self, rows: slice) -> Responses:
        """Some of the responses."""
        return Responses(tuple(block[rows] for block in self.ZtY), self.XtY[rows], self.yty[rows])


@dataclass(frozen=True, slots=True)
class Minima:
    """Where the descents of R responses ended, in internal coordinates.

    Attributes
    ----------
    theta : ndarray, shape (R, n_theta)
    beta : ndarray, shape (R, p)
    s2, deviance : ndarray, shape (R,)
    outcome : ndarray of object, shape (R,)
        `Outcome` members.
    evaluations : ndarray of int64, shape (R,)
    """

    theta: Array
    beta: Array
    s2: Array
    deviance: Array
    outcome: Array
    evaluations: Array

    @property
    def converged(self) -> Array:
        """Which of them passed their certificate, shape (R,)."""
        return converged_ones(self.outcome)

    def take(self, rows: slice) -> Minima:
        """Views of some of them."""
        return Minima(*(getattr(self, field.name)[rows] for field in fields(self)))


def converged_ones(outcomes: Array) -> Array:
    """Which of many outcomes passed their certificate, shape (R,)."""
    return np.array([outcome.converged for outcome in outcomes], dtype=bool)


@dataclass(frozen=True, slots=True)
class Engine:
    """A small design made ready for descents side by side.

    Attributes
    ----------
    small : Small
    order : tuple of int
        Factors of the Gram, the leading one first.
    """

    small: Small
    order: tuple[int, ...]


def operations(gram: Gram, n_theta: int) -> float:
    """Multiplications and additions of one evaluation by the engine."""
    lead = choose_leading(gram.shapes)
    levels, s = gram.shapes[lead]
    n_b = float(gram.q - levels * s + gram.p)
    return levels * (s * s * n_b * n_b * 3.0 + 4.0 * s**4 + 50.0) + (n_theta + 1.0) * n_b**3


def make_engine(problem: Problem) -> Engine | None:
    """The compiled engine of a small design; None where the general path is the better one."""
    gram, model = problem.gram, problem.model
    if operations(gram, model.n_theta) > SMALL:
        return None
    lead = choose_leading(gram.shapes)
    order = (lead, *(j for j in range(len(gram.shapes)) if j != lead))
    levels, sizes = (np.array([gram.shapes[j][c] for j in order]) for c in (0, 1))
    starts = np.concatenate([[0, 0], np.cumsum(levels[1:] * sizes[1:])])[: len(order)]
    basis = _padded_basis(model, order, int(sizes.max()))
    scale = make_scale(problem)
    noise = np.ones((len(order), int(sizes.max())))
    for place, j in enumerate(order):
        noise[place, : sizes[place]] = np.sqrt(np.diag(scale.noise[j]))
    blocks = tuple(
        (order.index(part.factor), part.columns.start, part.columns.stop)
        for part in model.parts
        if part.template.name == "unstructured" and part.template.size > 1
    )
    flat = basis.sum(axis=1)
    border = Border(
        D=np.ascontiguousarray(gram.ZtZ[lead]),
        C=np.concatenate(
            [*(_panel(gram, lead, j) for j in order[1:]), gram.ZtXy[lead][:, :, :-1]], axis=2
        ),
        A=_corner(gram, order[1:]),
        factors=np.column_stack([levels, sizes, starts]).astype(np.int64),
        owner=basis.any(axis=(2, 3)).argmax(axis=1),
        pairs=flat + flat.transpose(0, 2, 1),
        n_Z=int(gram.q - levels[0] * sizes[0]),
    )
    return Engine(Small(border, basis, noise, blocks, gram.n, problem.reml), order)


def _padded_basis(model, order: tuple[int, ...], width: int) -> Array:
    """B_i at the place of its factor, shape (m, k, width, width)."""
    basis = np.zeros((model.n_theta, len(order), width, width))
    for part in model.parts:
        rows = part.columns
        basis[part.theta, order.index(part.factor), rows, rows] = part.template.factor_basis
    return basis


def _panel(gram: Gram, i: int, j: int) -> Array:
    """Z_i'WZ_j, dense, shape (l_i, s_i, l_j s_j)."""
    (l_i, s_i), (l_j, s_j) = gram.shapes[i], gram.shapes[j]
    block = gram.cross[min(i, j), max(i, j)]
    out = np.zeros((l_i, l_j, s_i, s_j))
    if i < j:
        out[block.first(), block.indices] = block.values
    else:
        out[block.indices, block.first()] = block.values.transpose(0, 2, 1)
    return out.transpose(0, 2, 1, 3).reshape(l_i, s_i, l_j * s_j)


def _corner(gram: Gram, rest: tuple[int, ...]) -> Array:
    """[Z_2 X]'W[Z_2 X], dense."""
    sizes = [gram.shapes[j][0] * gram.shapes[j][1] for j in rest]
    at = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    p = gram.p
    A = np.zeros((at[-1] + p, at[-1] + p))
    A[at[-1] :, at[-1] :] = gram.XytXy[:p, :p]
    for r, i in enumerate(rest):
        levels, s = gram.shapes[i]
        rows = slice(at[r], at[r + 1])
        diagonal = np.zeros((levels, s, levels, s))
        diagonal[np.arange(levels), :, np.arange(levels)] = gram.ZtZ[i]
        A[rows, rows] = diagonal.reshape(levels * s, -1)
        A[rows, at[-1] :] = gram.ZtXy[i][:, :, :-1].reshape(levels * s, p)
        A[at[-1] :, rows] = A[rows, at[-1] :].T
        for c in range(r):
            columns = slice(at[c], at[c + 1])
            A[rows, columns] = _panel(gram, i, rest[c]).reshape(levels * s, -1)
            A[columns, rows] = A[rows, columns].T
    return A


def refit_responses(
    problem: Problem,
    engine: Engine | None,
    responses: Responses,
    start: Array,
    *,
    tolerance: float | None = None,
    max_evaluations: int = 200,
    **settings: Any,
) -> Minima:
    """The optimum for each of many responses.

    Parameters
    ----------
    problem : Problem
        Its own response is not looked at.
    engine : Engine or None
        As `make_engine` gave it.
    responses : Responses
    start : ndarray, shape (n_theta,)
        Internal coordinates.
    tolerance : float, optional
    max_evaluations : int
    **settings
        Of `minimise`, for responses that the engine does not take.
    """
    common: dict[str, Any] = {"max_evaluations": max_evaluations}
    if tolerance is not None:
        common["tolerance"] = tolerance
    minima, passed = _nothing(problem, len(responses)), np.zeros(len(responses), bool)
    if engine is not None:
        width = max(1, MEMORY // bytes_per_response(engine.small.border))

        def run(begin: int, end: int) -> None:
            for at in range(begin, end, width):
                rows = slice(at, min(at + width, end))
                passed[rows] = _side_by_side(
                    problem, engine, responses.take(rows), start, minima.take(rows), **common
                )

        over_range(run, len(responses), smallest=SHARE)
    if not passed.all():
        problem = remembering(problem, start) if (~passed).sum() > 1 else problem
    for r in np.flatnonzero(~passed):
        own = responses.take(slice(r, r + 1)), start, minima.take(slice(r, r + 1))
        _one_by_one(problem, *own, common | settings)
    return minima


@dataclass(frozen=True, slots=True)
class Remembered:
    """A factorisation with what its inverse is asked for kept (see `sparselmm.systems.base.Factored`)."""

    logdet: float
    factored: Any
    sums: tuple[Array, ...]

    def solve_scaled(self, T: Sequence[Array], blocks: Sequence[Array]) -> tuple[Array, Array]:
        """V = A^-1 R and R'V for R = Lambda'B."""
        return self.factored.solve_scaled(T, blocks)

    def form(self, R: Array) -> Array:
        """R'A^-1 R."""
        return self.factored.form(R)

    def inverse_sums(self) -> tuple[Array, ...]:
        """Sums over levels of the diagonal blocks of A^-1."""
        return self.sums


@dataclass(frozen=True, slots=True)
class RememberingSystem:
    """A system that knows its factorisation at one T, where the descents of all responses begin."""

    system: Any
    T: tuple[Array, ...]
    known: Remembered

    def at(self, T: Sequence[Array]) -> Any:
        """See `sparselmm.systems.base.System`."""
        same = all(np.allclose(a, b, rtol=1e-13, atol=0.0) for a, b in zip(T, self.T, strict=True))
        return self.known if same else self.system.at(T)


def remembering(problem: Problem, start: Array) -> Problem:
    """The same problem with the factorisation at `start` done once for all responses."""
    T = problem.model.factors(np.asarray(start, dtype=float))
    factored = problem.system.at(T)
    known = Remembered(factored.logdet, factored, factored.inverse_sums())
    system: Any = RememberingSystem(problem.system, T, known)
    return replace(problem, system=system)


def with_response(problem: Problem, responses: Responses, r: int = 0) -> Problem:
    """The problem of one of the responses."""
    gram = problem.gram.with_response(
        tuple(block[r] for block in responses.ZtY), responses.XtY[r], float(responses.yty[r])
    )
    return replace(problem, gram=gram)


def _nothing(problem: Problem, R: int) -> Minima:
    """Minima that are not known yet."""
    return Minima(
        np.full((R, problem.model.n_theta), np.nan), np.full((R, problem.gram.p), np.nan), np.full(R, np.nan),
        np.full(R, np.nan), np.full(R, Outcome.STALLED, dtype=object), np.zeros(R, np.int64),
    )  # fmt: skip


def _one_by_one(
    problem: Problem, response: Responses, start: Array, minima: Minima, settings: dict
) -> None:
    """Fill in the minimum of one response by the general optimiser; where that fails it starts anew from moments."""
    own = with_response(problem, response)
    for theta in (start, None):
        try:
            end = minimise(own, theta, **settings)
        except ConvergenceError:
            continue
        at = end.solution
        found = (end.theta, at.beta, at.s2, at.deviance, end.outcome, end.evaluations)
        for field, value in zip(fields(Minima), found, strict=True):
            getattr(minima, field.name)[0] = value
        if end.converged:
            break


def _side_by_side(
    problem: Problem,
    engine: Engine,
    responses: Responses,
    start: Array,
    minima: Minima,
    *,
    tolerance: float = TOLERANCE,
    max_evaluations: int,
) -> Array:
    """Fill in the minima by the engine; which of them it vouches for, shape (R,)."""
    small, R = engine.small, len(responses)
    n_Z = small.border.n_Z
    lead, *rest = (responses.ZtY[j] for j in engine.order)
    CB = np.concatenate([*(block.reshape(R, -1) for block in rest), responses.XtY], axis=1)
    work = workspace(small, lead, CB, responses.yty)
    ends = descend(small, work, np.asarray(start, float), tolerance, max_evaluations)
    minima.theta[:] = ends.theta
    minima.beta[:] = ends.estimates[:, n_Z:-2]
    minima.s2[:] = ends.estimates[:, -2]
    minima.deviance[:] = ends.estimates[:, -1] + _constant(problem)
    minima.outcome[:] = [Outcome.SINGULAR if own else Outcome.CONVERGED for own in ends.singular]
    minima.evaluations[:] = ends.evaluations
    return ends.passed


def _constant(problem: Problem) -> float:
    """What the engine leaves out of the deviance."""
    basis = problem.gram.basis
    return -problem.gram.sum_log_weights + (2.0 * basis.logdet_Rx if problem.reml else 0.0)
