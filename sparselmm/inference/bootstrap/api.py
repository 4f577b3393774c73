"""Bootstrap of a fit: who makes which replicates, in which process, and how to go on.

Replicate i draws from child i of one seed, and blocks have fixed edges: neither the number of workers nor the order in
which they finish changes a number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import ConvergenceWarning, InferenceError, warn
from sparselmm.fit import Fit
from sparselmm.inference.bootstrap.record import Bootstrap, check_enough, interval_function
from sparselmm.inference.bootstrap.replicate import (
    ResponseSampler,
    Sampler,
    all_estimates,
    as_series,
    make_sampler,
)
from sparselmm.refits.responses import block_width, check_count, make_generator
from sparselmm.varcorr import parameter_names

if TYPE_CHECKING:
    import pandas as pd

SLOW = 8  # replicates in a block where each is fitted by itself


@dataclass(frozen=True)
class Plan:
    """What makes the replicates of one bootstrap.

    Attributes
    ----------
    sampler : Sampler
    estimate : pandas.Series
    kind : str
    width : int
        Replicates in a block.
    """

    sampler: Sampler
    estimate: pd.Series
    kind: str
    width: int

    @property
    def statistic(self) -> Callable | None:
        """The user's statistic."""
        return self.sampler.statistic

    def blocks(self, first: int, last: int) -> list[tuple[int, int]]:
        """(first, count) of the blocks of replicates `first` to `last`, edges at multiples of the width."""
        edges = [first, *range(first - first % self.width + self.width, last, self.width), last]
        return [(a, b - a) for a, b in pairwise(edges)]

    def go_on(
        self, before: Bootstrap | None, nsim: int, executor: Executor | None, progress: bool
    ) -> Bootstrap:
        """More replicates, after those of an earlier record."""
        import pandas as pd

        check_count(nsim)
        first = 0 if before is None else before.nsim
        values = [] if before is None else [before.replicates.to_numpy(float)]
        outcome = [] if before is None else list(before.outcome)
        blocks = self.blocks(first, first + nsim)
        results = _shown(run(self.sampler, blocks, executor), blocks, progress)
        try:
            for own, outcomes in results:
                values.append(own)
                outcome += outcomes
        except KeyboardInterrupt:
            if not outcome:
                raise
            warn(
                f"Interrupted after {len(outcome)} of {first + nsim} replicates; these are kept, extend() goes on.",
                ConvergenceWarning,
            )
        frame = pd.DataFrame(np.concatenate(values), columns=self.sampler.names)
        return Bootstrap(self.estimate, frame, np.array(outcome, dtype=object), self.kind, self)


def run(
    sampler: Sampler, blocks: list[tuple[int, int]], executor: Executor | None
) -> Iterator[tuple[Array, list[str]]]:
    """The blocks' results, in order."""
    if executor is None:
        yield from (sampler.block(first, count) for first, count in blocks)
        return
    # one thread each: workers share the cores, and a forked one cannot use the pool of its parent
    jobs: list[Future] = [
        executor.submit(sampler.block, first, count, threads=1) for first, count in blocks
    ]
    try:
        yield from (job.result() for job in jobs)
    finally:
        for job in jobs:
            job.cancel()


def _shown(results: Iterator, blocks: list[tuple[int, int]], progress: bool) -> Iterator:
    if not progress:
        yield from results
        return
    from tqdm.auto import tqdm

    with tqdm(total=sum(count for _, count in blocks), desc="bootstrap", unit="replicate") as bar:
        for result, (_, count) in zip(results, blocks, strict=True):
            bar.update(count)
            yield result


def bootstrap(
    fit: Fit,
    nsim: int = 1000,
    rng: np.random.Generator | np.random.SeedSequence | int | None = None,
    *,
    kind: str = "parametric",
    statistic: Callable[[Any], Any] | None = None,
    executor: Executor | None = None,
    progress: bool = False,
) -> Bootstrap:
    """Replicates of the estimates, from refits of simulated or resampled data.

    Parameters
    ----------
    nsim : int
        Number of replicates.
    rng : numpy.random.Generator, SeedSequence or int, optional
        Seed; fresh entropy if not given. Replicate i draws from child i of it, so that the result does not depend
        on the number of workers.
    kind : str
        ``"parametric"`` draws random effects and residuals from the fitted normal distributions.
        ``"residual"`` draws conditional modes and residuals with replacement, after stretching them to the fitted
        variances. ``"cases"`` draws the levels of the outermost grouping factor with replacement, with all their
        rows; all factors must be nested in it.
    statistic : callable, optional
        From the `Results` of a replicate to a number, a vector, a dict or a Series. By default fixed effects,
        standard deviations, correlations and sigma, which is much faster on small designs.
    executor : concurrent.futures.Executor, optional
        Runs blocks of replicates side by side; with processes the statistic must be picklable.
    progress : bool
        Show a bar (needs tqdm).

    Returns
    -------
    Bootstrap
        ``.conf_int()``, ``.replicates``, ``.frame`` with bias and standard errors, ``.failures``, ``.extend(nsim)``.

    Raises
    ------
    InferenceError
        For an unknown kind, a fit that did not converge, and crossed factors under ``kind="cases"``.

    Notes
    -----
    A parametric replicate replaces only Z'Wy, X'Wy and y'Wy; on small designs all replicates of a block take their
    Newton steps together. On large ones each ends within a hundredth of a standard error of its optimum, a third of
    what 1,000 replicates leave to chance, unless the fit's ``Options(tolerance=...)`` asks for more. Replicates that
    fail are counted and kept as missing; singular fits count.

    References
    ----------
    Carpenter, J.R., Goldstein, H., Rasbash, J. (2003). A novel bootstrap procedure for assessing the relationship
    between class size and achievement. Journal of the Royal Statistical Society C 52, 431-443 (residual kind).

    van der Leeden, R., Meijer, E., Busing, F.M.T.A. (2008). Resampling multilevel models. Handbook of Multilevel
    Analysis, 401-433 (all kinds).

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
    >>> replicates = fit.bootstrap(200, rng=1)
    >>> replicates.nsim, len(replicates.failures)
    (200, 0)
    >>> list(replicates.conf_int(type="shortest").index)
    ['Intercept', 'sd_Intercept|Batch', 'sigma']
    """
    if not fit.optimum.converged:
        raise InferenceError(
            f"Found a fit that is {fit.optimum.outcome.value}; expected a converged one to simulate from. Fit again "
            "with more evaluations (options) or other start values."
        )
    estimate = _estimate(fit, statistic)
    sampler = make_sampler(fit, kind, seed_of(rng), list(estimate.index), statistic)
    together = isinstance(sampler, ResponseSampler) and sampler.engine is not None
    width = block_width(fit.n) if together else min(SLOW, block_width(fit.n))
    return Plan(sampler, estimate, kind, width).go_on(None, nsim, executor, progress)


def _estimate(fit: Fit, statistic: Callable | None) -> pd.Series:
    import pandas as pd

    if statistic is not None:
        return as_series(statistic(fit)).rename("estimate")
    names = [fit.spec.column_names[i] for i in fit.kept] + parameter_names(fit)
    return pd.Series(np.concatenate(all_estimates(fit)), index=names, name="estimate")


def seed_of(
    rng: np.random.Generator | np.random.SeedSequence | int | None,
) -> np.random.SeedSequence:
    """A seed of its own: a generator is drawn from, so that two bootstraps with it differ."""
    if isinstance(rng, np.random.SeedSequence):
        return rng
    generator = make_generator(rng)
    if isinstance(rng, (np.random.Generator, np.random.RandomState)):
        return np.random.SeedSequence([int(word) for word in generator.integers(2**32, size=4)])
    return np.random.SeedSequence(rng)


def bootstrap_intervals(
    fit: Fit,
    level: float = 0.95,
    parm: str | Sequence[str] | None = None,
    *,
    type: str = "percentile",
    nsim: int = 1000,
    rng: np.random.Generator | np.random.SeedSequence | int | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Bootstrap confidence intervals: what ``conf_int(method="bootstrap")`` returns.

    Parameters
    ----------
    level : float
    parm : str or sequence of str, optional
    type : str
        ``"percentile"``, ``"basic"``, ``"normal"`` or ``"shortest"``.
    nsim, rng, **settings
        See `bootstrap`.

    Returns
    -------
    pandas.DataFrame
        Columns ``lower, upper``, indexed by parameter.
    """
    interval_function(type)
    check_count(nsim)
    check_enough(nsim, level, type)
    return bootstrap(fit, nsim, rng, **settings).conf_int(level, type, parm)
