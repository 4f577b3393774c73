"""How a model is computed: shapes, paths with their predicted cost, threads, and how it ended."""

from __future__ import annotations

import numpy as np

from sparselmm.covariance.model import count_theta
from sparselmm.design import Design, DesignSpec
from sparselmm.fit import Fit, Prepared
from sparselmm.machine import size_text
from sparselmm.options import Options
from sparselmm.report.render import Section, Summary
from sparselmm.report.text import TextTable, count
from sparselmm.varcorr import describe_singularity


def describe_prepared(prepared: Prepared, options: Options) -> Summary:
    """Shapes, the path chosen among those compared, memory and threads; nothing is fitted."""
    return Summary(tuple(_before(prepared, options)))


def describe_refused(spec: DesignSpec, design: Design, refusal: str) -> Summary:
    """Shapes of a model that needs more memory than there is, and the numbers of the refusal."""
    counts = _counts(
        n=len(design.y),
        fixed=count(design.X.shape[1], "fixed effect"),
        q=sum(factor.n_levels * factor.Q.shape[1] for factor in design.factors),
        n_theta=count_theta(spec.terms),
    )
    return Summary(
        (
            Section(spec.formula, "\n".join([counts, *_left_out(spec)])),
            Section("Random effects:", _terms(spec)),
            Section("Refused:", refusal),
        )
    )


def describe(fit: Fit) -> Summary:
    """How the fit was computed and how it ended.

    Returns
    -------
    Summary
        Shapes, the paths with their predicted operations and memory (the one taken has a star),
        threads, outcome, certificate and the log: a numbered line per evaluation of the score,
        and one without a number for a last step of which only the deviance was computed.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> print(str(fit.describe()).splitlines()[0])
    Reaction ~ Days + (Days | Subject)
    """
    before = _before(fit.prepared, fit.options)
    return Summary((*before, Section("Optimum:", _outcome(fit)), Section("", log_table(fit))))


def _before(prepared: Prepared, options: Options) -> list[Section]:
    threads = prepared.threads(options)
    return [
        Section(prepared.spec.formula, _shapes(prepared)),
        Section("Random effects:", _terms(prepared.spec)),
        Section("Paths (* taken), per evaluation:", str(prepared.choice)),
        Section("", f"Threads: {threads} for kernels, then {threads} for BLAS"),
    ]


def _shapes(prepared: Prepared) -> str:
    spec, gram = prepared.spec, prepared.gram
    leading = prepared.system.leading
    names = spec.column_names
    gone = [name for i, name in enumerate(names) if i not in set(gram.basis.kept.tolist())]
    note = f" ({', '.join(gone)} dropped as linearly dependent)" if gone else ""
    fixed = count(gram.p, "fixed effect") + note
    small = gram.nbytes < 2**20
    lines = [
        _counts(gram.n, fixed, gram.q, prepared.model.n_theta),
        f"Cross-products: {'less than 1 MiB' if small else size_text(gram.nbytes)}",
        f"Eliminated level by level: {spec.factor_names[leading.index]}",
        f"Order of what is left: {leading.n_S:,}",
        *_left_out(spec),
    ]
    return "\n".join(lines)


def _counts(n: int, fixed: str, q: int, n_theta: int) -> str:
    random, parameters = count(q, "random effect"), count(n_theta, "covariance parameter")
    return ", ".join([count(n, "row"), fixed, random, parameters])


def _left_out(spec: DesignSpec) -> list[str]:
    """A line about rows that were dropped, if there were any."""
    if not (spec.n_dropped_missing or spec.n_dropped_zero_weight):
        return []
    line = f"Left out: {spec.n_dropped_missing:,} rows with missing values"
    return [f"{line}, {spec.n_dropped_zero_weight:,} of weight zero"]


def _terms(spec: DesignSpec) -> TextTable:
    rows = tuple(
        (
            f"({t.label})",
            f"{len(spec.groupings[t.factor]):,}",
            str(len(t.columns)),
            t.template if len(t.columns) > 1 else "one variance",
        )
        for t in spec.terms
    )
    return TextTable(("Term", "Levels", "Effects", "Covariance"), rows)


def _outcome(fit: Fit) -> str:
    certificate = fit.optimum.certificate
    checked = (
        f"Certificate {'passed' if certificate.passed else 'failed'}: score "
        f"{abs(certificate.score_norm):.1e} standard errors, gain of another step "
        f"{abs(certificate.gain):.1e}, smallest curvature {certificate.curvature:.2g}"
    )
    singular = [f"Singular in {phrase}" for phrase in describe_singularity(fit)]
    return "\n".join([fit.optimum.outcome.value.capitalize(), checked, *singular])


def log_table(fit: Fit) -> TextTable:
    """One row per entry of the log, numbered where the score was evaluated."""
    counted = np.cumsum([np.isfinite(entry.score_norm) for entry in fit.optimum.log])
    rows = tuple(
        (
            str(i) if np.isfinite(entry.score_norm) else "",
            f"{entry.deviance:.8g}",
            _or_dash(entry.score_norm),
            entry.step,
        )
        for i, entry in zip(counted, fit.optimum.log, strict=True)
    )
    return TextTable(("", "deviance", "score norm", "step"), rows, left=0)


def _or_dash(norm: float) -> str:
    """A score norm; a dash where only the deviance was computed."""
    return "-" if np.isnan(norm) else f"{norm:.2e}"
