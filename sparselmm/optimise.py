"""From starting values to the optimum, with a certificate.

Each iteration evaluates value, score and average information once and takes a step of `sparselmm.steps`. What the
average information misses, `sparselmm.surrogate` learns from the scores or takes from exact second derivatives, so that
convergence is superlinear at one evaluation a step.

The score in T is blind where a pivot of T is zero. Pivots therefore stay above a small floor during the iteration;
there the score is exact and the Hessian shows whether the boundary is a minimum (positive curvature: the
Karush-Kuhn-Tucker condition on the whole matrix) or a way down. Pivots that end on the floor are set to zero.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparselmm._types import Array
from sparselmm.beside import Neighbourhood, log_change, relative_change
from sparselmm.certificate import certify
from sparselmm.covariance.chart import Chart, choose_chart
from sparselmm.criterion import Solution
from sparselmm.errors import ConvergenceError
from sparselmm.optimum import Entry, Optimum, Outcome
from sparselmm.problem import DEVIANCE_ERROR, Evaluation, Problem
from sparselmm.start import level_information, moment_start
from sparselmm.steps import FLOOR, Scale, Step, above_floor, pivot_floors, propose
from sparselmm.surrogate import Surrogate

SHORTER = 0.3  # of a step that raised the deviance
WIDEST = 2.0  # radius of the trust region, per root of the number of terms
NARROWEST = 1e-7
LARGEST_SCORE = 1e-3  # in standard errors, that a certificate lets pass
PLATEAU = 0.05  # score in standard errors, away from the boundary, that a small promised gain does not excuse
VISIBLE = 0.25, 1e-4  # pivot², in units of four times the variance that one level's data can show
MANY_LEVELS = 1_000  # of every factor, from which on a closing step may not be worth its time
NEGLIGIBLE = 2e-14  # promised gain per level that moves theta by less than about 3e-7 of itself
ROUNDING = 1e-13  # relative error of a deviance
EPSILON, LEAST_RESIDUAL = 1e-15, 1e-13  # of y'y: its error, and an r2 that has lost its digits
NEAR = 2e-3  # change of log|A|, in its terms of second order, up to which a factor serves once more
SCORE_ERROR = 1e-4  # in standard errors, of what then follows from it; and half of what the tolerance lets pass
SAME = 0.01  # relative change of T over which the information stays as it is
VAGUE = 1e-6  # rounding error of a deviance that leaves a promise open
BENT = 0.5  # share of the widest radius to which an exact Hessian that bends down is believed


def make_scale(problem: Problem) -> Scale:
    """Floors and noise variances of a problem."""
    information = level_information(problem.gram)
    for part in problem.model.parts:
        if part.template.name == "scalar":  # the columns tell about one variance together
            information[part.factor][part.columns] = information[part.factor][part.columns].mean()
    noise = tuple(np.diag(1.0 / own) for own in information)
    pivots = problem.model.theta([np.sqrt(FLOOR * matrix) for matrix in noise])
    return Scale(np.where(problem.model.pivots, pivots, -np.inf), noise)


def minimise(
    problem: Problem,
    start: Array | None = None,
    *,
    tolerance: float = 1e-8,
    closing: bool = True,
    beside: bool = False,
    largest_score: float = LARGEST_SCORE,
    max_evaluations: int = 200,
    report: Callable[[Entry], None] | None = None,
) -> Optimum:
    """Minimise the profiled deviance.

    Parameters
    ----------
    problem : Problem
    start : ndarray, shape (n_theta,), optional
        Internal coordinates; from moments when not given.
    tolerance : float
        Stop when a step promises to lower the deviance by less.
    closing : bool
        Whether to take that last step too, with the estimates but without the score there. Convergence is
        superlinear, so it leaves an error far below what the certificate shows. Not taken where it would not show
        in theta, whose standard error falls with the root of the number of levels.
    beside : bool
        Whether solves are so much cheaper than a factorisation that value and score next to one may come from it.
    largest_score : float
        In standard errors, that the certificate lets pass.
    max_evaluations : int
    report : callable
        Called with every log entry.
    """
    if problem.model.n_theta == 0:
        raise ValueError("Found no random effects; expected at least one term such as (1 | g).")
    scale = make_scale(problem)
    theta = moment_start(problem.gram, problem.model) if start is None else start
    run = _Run(problem, scale, tolerance, beside, largest_score, report)
    try:
        outcome = run.descend(theta, max_evaluations)
    except KeyboardInterrupt:
        if run.best is None:
            raise
        outcome = Outcome.INTERRUPTED
    levels = min(n_levels for n_levels, _ in problem.gram.shapes)
    shown = levels < MANY_LEVELS or (run.next is not None and run.next.gain > NEGLIGIBLE * levels)
    return run.finish(outcome, closing=closing and shown and outcome is Outcome.CONVERGED)


class _Run:
    """The state of one descent: the best evaluation, its model, the log."""

    def __init__(
        self,
        problem: Problem,
        scale: Scale,
        tolerance: float,
        beside: bool,
        largest_score: float,
        report: Callable[[Entry], None] | None,
    ) -> None:
        self.problem, self.scale, self.report = problem, scale, report
        self.tolerance, self.largest_score = tolerance, largest_score
        self.near = NEAR if beside and not problem.exact_is_cheap() else 0.0
        self.score_error = min(SCORE_ERROR, 0.5 * np.sqrt(2.0 * tolerance))
        self.surrogate = Surrogate(problem, scale)
        self.log: list[Entry] = []
        self.best: Evaluation | None = None
        self.factorised: Evaluation | None = None  # the best of those that have a factor
        self.around: Neighbourhood | None = None  # what surrounds it
        self.kept = False  # whether its information is that of the point before
        self.next: Step | None = None
        self.widest = WIDEST * np.sqrt(len(problem.model.parts))

    def descend(self, theta: Array, max_evaluations: int) -> Outcome:
        chart = choose_chart(
            self.problem.model, self.problem.model.factors(theta), self.scale.noise
        )
        start = chart.theta(self.problem.model.factors(theta))[0]
        start = above_floor(start, pivot_floors(chart, self.scale))
        at = self.best = self.evaluate(chart, start, "start", limit=np.inf)
        if at is None:
            return Outcome.STALLED
        radius, exhausted = self.widest, False
        while True:
            local = self.surrogate.at(at)
            self.next = propose(local, self.widest)
            gain = self.next.gain
            if gain > self.tolerance and self.surrogate.becomes_exact(len(self.log), gain):
                local = self.surrogate.at(at)
                self.next = propose(local, self.widest)
            if self.surrogate.is_bent:
                radius = min(radius, BENT * self.widest)
            if self.next.gain <= self.tolerance or exhausted:
                return Outcome.CONVERGED
            while True:
                if len(self.log) >= max_evaluations:
                    return Outcome.MAX_EVALUATIONS
                step = propose(local, radius) if radius < self.widest else self.next
                limit = at.deviance + self.noise(at)
                new = self.evaluate(local.chart, step.theta, step.kind, limit)
                radius = self.next_radius(at, new, step, radius)
                if new is not None:
                    break
                if radius < NARROWEST or step.gain < self.noise(at):
                    return Outcome.CONVERGED  # as far as rounding lets it; the certificate decides
            exhausted = step.kind == "edge" and step.gain <= self.noise(at)
            at = self.best = new

    def next_radius(
        self, at: Evaluation, new: Evaluation | None, step: Step, radius: float
    ) -> float:
        """Trust the model less where it promised too much, more where it was cut short."""
        if new is None:
            return SHORTER * min(step.size, radius)
        kept = (at.deviance - new.deviance) / step.gain
        if kept < 0.25 and step.gain > self.noise(at):
            return 0.5 * min(step.size, radius)
        return min(2.0 * radius, self.widest) if kept > 0.75 else radius

    def evaluate(self, chart: Chart, theta: Array, step: str, limit: float) -> Evaluation | None:
        """Value, score and information, or None where the value is above the limit (or undefined).

        After a small change of T, relative to T itself, the information of the point before serves once more: it has
        changed by less than it differs from the Hessian.
        """
        internal = self.problem.model.theta(chart.factors(theta))
        beside = self.evaluate_beside(internal)
        solution = self.problem.solve(internal) if beside is None else beside.solution
        least = LEAST_RESIDUAL * self.problem.gram.XytXy[-1, -1]
        if not (solution.r2 > least and solution.deviance <= limit):
            self.record(Entry(internal, solution.deviance, np.nan, step))
            return None
        if beside is None:
            new = self.problem.evaluate(internal, solution, self.serving_information(solution))
            self.kept = self.best is not None and new.information is self.best.information
            self.factorised, self.around = new, None
        else:
            new, self.kept, step = beside, True, "beside"
        self.record(Entry(internal, new.deviance, new.score_norm(), step))
        return new

    def serving_information(self, solution: Solution) -> Array | None:
        """The information of the point before, where it serves once more."""
        best = self.best
        if best is None or self.kept or self.problem.exact_is_cheap():
            return None
        return best.information if relative_change(best.solution.T, solution.T) < SAME else None

    def evaluate_beside(self, theta: Array) -> Evaluation | None:
        """Value and score from the last factorisation, where theta is close to it."""
        best, last = self.best, self.factorised
        if best is None or last is None:
            return None
        T = self.problem.model.factors(theta)
        if not log_change(self.problem.gram, last.solution.T, T) < self.near:
            return None
        self.around = self.around or self.problem.neighbourhood(last)
        return self.problem.evaluate_beside(self.around, theta, best, self.score_error)

    def record(self, entry: Entry) -> None:
        self.log.append(entry)
        if self.report is not None:
            self.report(entry)

    def noise(self, at: Evaluation) -> float:
        """By how much a deviance may be wrong."""
        sampled = at.solution.factored is None
        return self.rounding(at) + sampled * 3.0 * DEVIANCE_ERROR

    def rounding(self, at: Evaluation) -> float:
        """Rounding error of a deviance; r2 is what is left of y'y."""
        gram = self.problem.gram
        cancelled = EPSILON * gram.XytXy[-1, -1] / at.solution.r2
        return ROUNDING * abs(at.deviance) + gram.n * (ROUNDING + cancelled)

    def finish(self, outcome: Outcome, *, closing: bool) -> Optimum:
        """Take the closing step, set pivots on the floor to zero, certify."""
        at, last, local = self.best, self.factorised, self.surrogate.local
        if at is None or last is None or local is None:
            raise ConvergenceError(
                f"Found a deviance of {self.log[0].deviance} at the starting values; expected a finite one. "
                "The response may be fitted perfectly, or the data hold extreme values: rescale them. "
                "If you gave a `start`, it may be too far away: leave it out."
            )
        internal, solution, model = at.theta, at.solution, self.problem.model
        negative = (at.theta[model.pivots] < 0.0).any()
        ends = [local.theta] if not closing or self.next is None else [self.next.theta, local.theta]
        for theta in ends:
            low = np.abs(theta) <= 2.0 * local.floors
            factors = local.chart.factors(np.where(low, 0.0, theta))
            end = model.theta(
                [_settled(*pair) for pair in zip(factors, self.scale.noise, strict=True)]
            )
            if theta is local.theta and not (low.any() or negative):
                break
            step = "boundary" if low.any() else "closing"
            known = None if theta is local.theta or low.any() else self.promised(at)
            closed = self.problem.solve_beside(last.solution, end, known, at.solution)
            self.record(Entry(end, closed.deviance, np.nan, step))
            if closed.deviance <= at.deviance + self.noise(at):
                internal, solution = end, closed
                break
        zero = np.flatnonzero(model.pivots & (internal == 0.0))
        plateau = outcome.converged and not len(zero) and at.score_norm() > PLATEAU
        if plateau:
            internal, solution = self.leave_plateau(at, internal, solution)
            zero = np.flatnonzero(model.pivots & (internal == 0.0))
        certificate = certify(local, self.next, zero, self.largest_score, plateau=plateau)
        if outcome.converged:
            outcome = Outcome.SINGULAR if len(zero) else Outcome.CONVERGED
            outcome = outcome if certificate.passed else Outcome.STALLED
        if solution is at.solution and at is not last:  # whose estimates only served a score
            solution = self.problem.solve_beside(last.solution, internal, at.deviance, solution)
        E = tuple(at.E) if solution is last.solution else None
        return Optimum(internal, solution, outcome, certificate, tuple(self.log), E)

    def promised(self, at: Evaluation) -> float | None:
        """The deviance after the next step, where it needs no look: it hardly falls, and rounding is less."""
        if self.next is None or self.next.gain > self.tolerance or self.rounding(at) > VAGUE:
            return None
        return at.deviance - self.next.gain

    def leave_plateau(
        self, at: Evaluation, internal: Array, solution: Solution
    ) -> tuple[Array, Solution]:
        """Set to zero what is too small to be told from zero, if the deviance does not rise.

        Near zero the deviance is flat in T, so that little is gained on the way although the score, relative to its
        standard error, does not vanish.
        """
        model = self.problem.model
        for share in VISIBLE:
            factors = zip(model.factors(internal), self.scale.noise, strict=True)
            end = model.theta([_settled(T, noise, share) for T, noise in factors])
            closed = self.problem.solve(end)
            self.record(Entry(end, closed.deviance, np.nan, "boundary"))
            if closed.deviance <= solution.deviance + self.noise(at):
                return end, closed
        return internal, solution


def _settled(T: Array, noise: Array, share: float = FLOOR) -> Array:
    """T with pivots that are not negative, and zeros for what nobody can see of a column without one."""
    least = 2.0 * np.sqrt(share * noise.diagonal())
    gone = np.abs(T.diagonal()) <= least
    T = np.where(gone & (np.abs(T) <= least[:, None]), 0.0, T)
    return T * np.where(T.diagonal() < 0.0, -1.0, 1.0)
