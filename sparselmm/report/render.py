"""What `print(fit)` and `fit.summary()` show, in the order of lme4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np

from sparselmm import estimates
from sparselmm._types import Array
from sparselmm.fit import Fit
from sparselmm.inference.wald import Ddf
from sparselmm.report.tables import tidy
from sparselmm.report.text import TextTable, aligned, count, p_text
from sparselmm.rows import scaled_residuals
from sparselmm.varcorr import TermCovariance, term_covariances

WIDTH = 88  # characters of a line
MOST_CORRELATIONS = 12  # fixed effects up to which their correlations are printed
METHODS = {"satterthwaite": "Satterthwaite's", "kenward-roger": "Kenward-Roger's"}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with text or a table below it."""

    heading: str
    body: str | TextTable

    def __str__(self) -> str:
        return f"{self.heading}\n{self.body}" if self.heading else str(self.body)

    def to_html(self) -> str:
        """The section as HTML."""
        heading = f"<p><b>{escape(self.heading)}</b></p>" if self.heading else ""
        if isinstance(self.body, TextTable):
            return heading + self.body.to_html()
        tag = "pre" if "  " in self.body else "p"
        text = escape(self.body) if tag == "pre" else escape(self.body).replace("\n", "<br>")
        return f"{heading}<{tag}>{text}</{tag}>"


@dataclass(frozen=True, slots=True)
class Summary:
    """A report that prints as text and shows as HTML in notebooks.

    Attributes
    ----------
    sections : tuple of Section
    """

    sections: tuple[Section, ...]

    def __str__(self) -> str:
        return "\n\n".join(str(section) for section in self.sections)

    def _repr_html_(self) -> str:
        return "".join(section.to_html() for section in self.sections)


def summary(fit: Fit, ddf: Ddf = None) -> Summary:
    """A report in the order of lme4's ``summary``.

    Parameters
    ----------
    ddf : str, float or None
        ``"satterthwaite"`` or ``"kenward-roger"`` for t tests with these degrees of freedom;
        a number of them; None for z tests.

    Returns
    -------
    Summary
        With ``str`` and HTML.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> print(fit.summary().sections[-3])
    Fixed effects:
              Estimate Std. Error z value Pr(>|z|)
    Intercept  251.405      6.825  36.838   <2e-16
    Days        10.467      1.546   6.771 1.27e-11
    """
    return Summary(tuple(_summary_sections(fit, ddf)))


def _summary_sections(fit: Fit, ddf: Ddf) -> Iterator[Section]:
    yield Section("", header(fit, ddf))
    yield Section("", criteria(fit))
    yield Section("Scaled residuals:", residual_quantiles(scaled_residuals(fit)))
    yield from _body(fit, fixed_table(fit, ddf))
    if 1 < fit.p <= MOST_CORRELATIONS:
        yield Section("Correlation of fixed effects:", correlation_table(fit))
    yield Section("", closing(fit))


def short_report(fit: Fit) -> Summary:
    """What `print` shows: formula, criterion, random and fixed effects."""
    head = (Section("", header(fit)), Section("", criteria(fit)))
    return Summary((*head, *_body(fit, short_table(fit)), Section("", closing(fit))))


def short_table(fit: Fit) -> TextTable:
    """Fixed effects side by side, or below each other where the line would be too long."""
    names, beta = tuple(_kept_names(fit)), tuple(aligned(fit.beta))
    beside = TextTable(names, (tuple(text.strip() for text in beta),), left=0)
    if len(str(beside).partition("\n")[0]) <= WIDTH:
        return beside
    return TextTable(("", "Estimate"), tuple(zip(names, beta, strict=True)))


def _body(fit: Fit, fixed: TextTable) -> Iterator[Section]:
    yield Section("Random effects:", random_table(fit))
    yield Section("", groups_line(fit))
    if fit.p:
        yield Section("Fixed effects:", fixed)


def _kept_names(fit: Fit) -> list[str]:
    names = estimates.names(fit)
    return [names[i] for i in fit.kept]


def header(fit: Fit, ddf: Ddf = None) -> str:
    """Method and formula."""
    method = "REML" if fit.reml else "maximum likelihood"
    tests = (
        f"; t-tests use {METHODS[ddf]} method" if isinstance(ddf, str) and ddf in METHODS else ""
    )
    lines = [f"Linear mixed model fitted by {method}{tests}", f"Formula: {fit.spec.formula}"]
    if fit.spec.weights_name:
        lines.append(f"Weights: {fit.spec.weights_name}")
    if fit.spec.offset_name:
        lines.append(f"Offset: {fit.spec.offset_name}")
    return "\n".join(lines)


def criteria(fit: Fit) -> str | TextTable:
    """The REML criterion, or the table of ML criteria."""
    if fit.reml:
        return f"REML criterion at convergence: {fit.deviance:.1f}"
    values = [estimates.aic(fit), estimates.bic(fit), estimates.llf(fit), fit.deviance]
    cells = (*(f"{value:.1f}" for value in values), str(estimates.df_resid(fit)))
    return TextTable(("AIC", "BIC", "log-lik", "deviance", "df.resid"), (cells,), left=0)


def residual_quantiles(scaled: Array) -> TextTable:
    """Five quantiles of the scaled residuals."""
    quantiles = np.quantile(scaled, [0.0, 0.25, 0.5, 0.75, 1.0])
    cells = tuple(f"{value:.4f}" for value in quantiles)
    return TextTable(("Min", "1Q", "Median", "3Q", "Max"), (cells,), left=0)


def random_table(fit: Fit) -> TextTable:
    """Variances, standard deviations and correlations."""
    terms = term_covariances(fit)
    variances = np.concatenate([*(np.diag(t.covariance) for t in terms), [fit.sigma2]])
    spread = iter(zip(aligned(variances), aligned(np.sqrt(variances)), strict=True))
    width = max((len(t.sd) - 1 for t in terms if t.pairs), default=0)
    rows = [row for term in terms for row in _term_rows(term, spread, width)]
    rows.append(("Residual", "", *next(spread), *[""] * width))
    header = ("Groups", "Name", "Variance", "Std.Dev.", *["Corr", *[""] * width][:width])
    return TextTable(header, tuple(rows), left=2)


def _term_rows(
    term: TermCovariance, spread: Iterator[tuple[str, str]], width: int
) -> Iterator[tuple[str, ...]]:
    correlation = term.correlation if term.pairs else np.empty((len(term.sd), 0))
    for a, name in enumerate(term.term.columns):
        own = [f"{value:.2f}" for value in correlation[a, :a]]
        group = term.group if a == 0 else ""
        yield group, name, *next(spread), *own, *[""] * (width - len(own))


def groups_line(fit: Fit) -> str:
    """Rows and levels."""
    levels = "; ".join(
        f"{name}, {len(own):,}"
        for name, own in zip(fit.spec.factor_names, fit.spec.groupings, strict=True)
    )
    line = f"Number of obs: {fit.n:,}, groups: {levels}"
    return "\n".join([line, *dropped_rows(fit)])


def dropped_rows(fit: Fit) -> list[str]:
    """What was left out of the data."""
    reasons = []
    if fit.spec.n_dropped_missing:
        reasons.append(f"{fit.spec.n_dropped_missing:,} with missing values")
    if fit.spec.n_dropped_zero_weight:
        reasons.append(f"{fit.spec.n_dropped_zero_weight:,} of weight zero")
    return [f"Rows left out: {', '.join(reasons)}"] if reasons else []


def fixed_table(fit: Fit, ddf: Ddf) -> TextTable:
    """Coefficients with z tests, or with t tests and degrees of freedom."""
    frame = tidy(fit, ddf=ddf)
    numbers = aligned(frame[["estimate", "std_error"]].to_numpy().T.ravel())
    estimate, error = numbers[: len(frame)], numbers[len(frame) :]
    statistic = [f"{v:.3f}" if np.isfinite(v) else "NA" for v in frame["statistic"]]
    p = [p_text(value) for value in frame["p_value"]]
    columns = [list(frame["term"]), estimate, error, statistic, p]
    names = ["", "Estimate", "Std. Error", "z value", "Pr(>|z|)"]
    if ddf is not None:
        columns.insert(3, aligned(frame["df"].to_numpy()))
        names = ["", "Estimate", "Std. Error", "df", "t value", "Pr(>|t|)"]
    return TextTable(tuple(names), tuple(zip(*columns, strict=True)))


def correlation_table(fit: Fit) -> TextTable:
    """Correlations of the fixed effects, lower triangle."""
    error = estimates.standard_errors(fit)
    correlation = fit.cov_beta / np.outer(error, error)
    names = _kept_names(fit)
    rows = [
        (names[a], *(f"{value:.3f}" for value in correlation[a, :a]), *[""] * (len(names) - 1 - a))
        for a in range(1, len(names))
    ]
    return TextTable(("", *(_shortened(name) for name in names[:-1])), tuple(rows))


def _shortened(name: str) -> str:
    return name if len(name) <= 9 else name[:8] + "."


def closing(fit: Fit) -> str:
    """How the optimum was found, and what was dropped."""
    gone = estimates.dropped(fit)
    dropped = (
        [f"Dropped as linearly dependent on earlier columns: {', '.join(gone)}"] if gone else []
    )
    work = f"{count(fit.optimum.evaluations, 'evaluation')}, path '{fit.prepared.choice.name}'"
    return "\n".join([*dropped, f"{fit.optimum.outcome.value.capitalize()} ({work})"])
