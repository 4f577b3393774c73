"""The front door: a formula and data to results, in one step or in two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sparselmm._types import Array
from sparselmm.design import Design, DesignSpec, build_design
from sparselmm.errors import DataError, MemoryRefusedError, warn
from sparselmm.fit import Prepared, fit, prepare
from sparselmm.options import Options
from sparselmm.report.describe import describe_prepared, describe_refused
from sparselmm.report.progress import progress_bar
from sparselmm.report.render import Summary
from sparselmm.report.verdict import complaints
from sparselmm.results import Results


class LinearMixedModel:
    """A model read and cross-multiplied, ready to be described and fitted.

    Parameters
    ----------
    formula, data, weights, offset, contrasts, path
        As in `lmm`.

    Attributes
    ----------
    prepared : Prepared
        Names, rows, cross-products and the path chosen; shared by all fits of this model.

    Raises
    ------
    FormulaError, DataError, PathError
        As `lmm`. A model that needs more memory than there is can still be described; `prepared`
        and `fit` raise its MemoryRefusedError.
    MemoryRefusedError
        The columns alone exceed what the machine has.

    Examples
    --------
    >>> import sparselmm as slm
    >>> data = slm.load_dataset("penicillin")
    >>> model = slm.LinearMixedModel("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    >>> print(model.describe().sections[0])
    diameter ~ 1 + (1 | plate) + (1 | sample)
    144 rows, 1 fixed effect, 30 random effects, 2 covariance parameters
    Cross-products: less than 1 MiB
    Eliminated level by level: plate
    Order of what is left: 6
    >>> round(model.fit(reml=False).deviance, 3)
    332.188
    """

    def __init__(
        self,
        formula: str,
        data: Any,
        *,
        weights: Any = None,
        offset: Any = None,
        contrasts: Mapping[str, Any] | None = None,
        path: str = "auto",
    ) -> None:
        self._spec, self._design = build_design(formula, data, weights, offset, contrasts)
        self._prepared = _prepare(self._spec, self._design, path)

    def __repr__(self) -> str:
        return f"<LinearMixedModel {self._spec.formula!r}, {len(self._design.y):,} rows>"

    @property
    def prepared(self) -> Prepared:
        """Names, rows, cross-products and the path chosen; shared by all fits of this model.

        Raises
        ------
        MemoryRefusedError
            The predicted memory exceeds what the machine has; nothing was allocated.
        """
        if isinstance(self._prepared, str):
            raise MemoryRefusedError(self._prepared)
        return self._prepared

    def describe(self, options: Options | None = None) -> Summary:
        """Shapes, paths with predicted operations and memory, the one chosen, threads.

        Nothing is fitted, and the path's memory is not touched yet. Of a model that needs more
        memory than there is: shapes, and the numbers of the refusal.
        """
        if isinstance(self._prepared, str):
            return describe_refused(self._spec, self._design, self._prepared)
        return describe_prepared(self.prepared, options or Options())

    def fit(
        self,
        reml: bool = True,
        *,
        start: Sequence[float] | None = None,
        options: Options | None = None,
        progress: bool = False,
    ) -> Results:
        """Fit by restricted maximum likelihood (REML), or by maximum likelihood.

        Parameters
        ----------
        reml, start, options, progress
            As in `lmm`.

        Raises
        ------
        MemoryRefusedError
            As `lmm`.
        """
        check_settings(reml, options)
        return _fit(self.prepared, reml, start, options, progress)


def _prepare(spec: DesignSpec, design: Design, path: str) -> Prepared | str:
    """Cross-products and path of a design, or why its memory was refused."""
    try:
        return prepare(spec, design, path)
    except MemoryRefusedError as refusal:
        return str(refusal)


def lmm(
    formula: str,
    data: Any,
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    path: str = "auto",
    start: Sequence[float] | None = None,
    options: Options | None = None,
    progress: bool = False,
) -> Results:
    """Fit a linear mixed model.

    Parameters
    ----------
    formula : str
        In lme4's syntax: ``"y ~ x + (1 + x | g) + (1 | h)"``.
    data : dataframe
        pandas, polars or pyarrow, or a dictionary of arrays. Rows with missing values in a
        variable of the model are left out, and counted in the summary.
    reml : bool
        Restricted maximum likelihood, or maximum likelihood.
    weights, offset : str or array of shape (n,), optional
        Column name or values: prior precision weights; a known part of the mean.
    contrasts : mapping, optional
        Per categorical column ``"sum"``, ``"treatment"``, ``"helmert"``, a contrast of formulaic or
        a matrix.
    path : str
        ``"auto"``, or how the penalised system is held: ``"grouped"``, ``"crossed"``, ``"sparse"``.
    start : sequence of float, shape (n_theta,), optional
        Relative covariance parameters to start from, as in `Results.theta`.
    options : Options, optional
        Tolerance, largest number of evaluations, threads.
    progress : bool
        Whether to show a progress bar (needs tqdm).

    Returns
    -------
    Results

    Raises
    ------
    FormulaError, DataError
        The message says what was found, what is expected and what to do.
    PathError
        Unknown path, or one whose library is not installed.
    MemoryRefusedError
        The predicted memory exceeds what the machine has; nothing was allocated.

    Warns
    -----
    RankWarning
        Columns of X depend on earlier ones; they were dropped and are NaN in the tables.
    SingularFitWarning
        The optimum lies on the boundary; the message names the term and the combination.
    ConvergenceWarning
        The fit did not pass its certificate.

    Notes
    -----
    Ctrl-C stops the optimiser but keeps its work: the results hold the best iterate so far, their
    ``outcome`` is ``Outcome.INTERRUPTED``, ``converged`` is False, and a `ConvergenceWarning` says
    so. ``lmm(..., start=fit.theta)`` goes on from there. Before the first evaluation is complete
    there is nothing to keep, and KeyboardInterrupt is raised as usual.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> print(fit)
    Linear mixed model fitted by REML
    Formula: Reaction ~ Days + (Days | Subject)
    <BLANKLINE>
    REML criterion at convergence: 1743.6
    <BLANKLINE>
    Random effects:
    Groups   Name      Variance Std.Dev. Corr
    Subject  Intercept   612.09   24.740
             Days         35.07    5.922 0.07
    Residual             654.94   25.592
    <BLANKLINE>
    Number of obs: 180, groups: Subject, 18
    <BLANKLINE>
    Fixed effects:
    Intercept   Days
       251.41  10.47
    <BLANKLINE>
    Converged (... evaluations, path 'grouped')
    """
    check_settings(reml, options)
    spec, design = build_design(formula, data, weights, offset, contrasts)
    prepared = prepare(spec, design, path, (options or Options()).threads)
    return _fit(prepared, reml, start, options, progress)


def _fit(
    prepared: Prepared,
    reml: bool,
    start: Sequence[float] | None,
    options: Options | None,
    progress: bool,
) -> Results:
    """The one way to a fit: bar, optimum, warnings."""
    with progress_bar(progress) as report:
        record = fit(
            prepared,
            reml=reml,
            options=options or Options(),
            start=None if start is None else check_start(prepared, start),
            report=report,
        )
    for category, message in complaints(record):
        warn(message, category)
    return Results(record)


def check_settings(reml: object, options: object) -> None:
    """Refuse settings of another type, which would otherwise be taken for something else.

    Raises
    ------
    DataError
        With what was found.
    """
    if not isinstance(reml, (bool, np.bool_)):
        raise DataError(f"Found reml={reml!r}; expected True (REML) or False (maximum likelihood).")
    if options is not None and not isinstance(options, Options):
        raise DataError(
            f"Found options of type {type(options).__name__}; expected sparselmm.Options, for "
            "example Options(max_evaluations=500)."
        )


def check_start(prepared: Prepared, start: Sequence[float]) -> Array:
    """theta to start from, shape (n_theta,).

    Raises
    ------
    DataError
        When there are not n_theta finite numbers.
    """
    try:
        theta = np.asarray(start, dtype=float)
    except (TypeError, ValueError):
        theta = np.full(np.array(start, dtype=object).shape, np.nan)
    expected = prepared.model.n_theta
    finite = bool(np.isfinite(theta).all())
    if theta.shape != (expected,) or not finite:
        labels = ", ".join(f"({term.label})" for term in prepared.spec.terms)
        others = "" if finite else " with values that are no finite numbers"
        raise DataError(
            f"Found start of shape {theta.shape}{others}; expected {expected} finite numbers, the lower "
            f"triangles of the relative covariance factors of {labels}, column by column."
        )
    return theta
