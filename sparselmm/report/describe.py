"""How a model is computed: shapes, paths with their predicted cost, threads, and how it ended."""

from __future__ import annotations

import numpy as np

from sparselmm.fit import Fit, Prepared
from sparselmm.options import Options
from sparselmm.report.render import Section, Summary
from sparselmm.report.text import TextTable, count
from sparselmm.varcorr import describe_singularity


def describe_prepared(prepared: Prepared, options: Options) -> Summary:
    """Shapes, the path chosen among those compared, memory and threads; nothing is fitted."""
    return Summary(tuple(_before(prepared, options)))


def describe(fit: Fit) -> Summary:
    """How the fit was computed and how it ended.

    Returns
    -------
    Summary
        Shapes, the paths with their predicted operations and memory (the one taken has a star),
        threads, outcome, certificate and one line per evaluation.

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
        Section("Random effects:", _terms(prepared)),
        Section("Paths (* taken), per evaluation:", str(prepared.choice)),
        Section("", f"Threads: {threads} for kernels, then {threads} for BLAS"),
    ]


def _shapes(prepared: Prepared) -> str:
    spec, gram = prepared.spec, prepared.gram
    leading = prepared.system.leading
    names = spec.column_names
    gone = [name for i, name in enumerate(names) if i not in set(gram.basis.kept.tolist())]
    note = f" ({', '.join(gone)} dropped as linearly dependent)" if gone else ""
    counts = [
        count(gram.n, "row"),
        count(gram.p, "fixed effect") + note,
        count(gram.q, "random effect"),
        count(prepared.model.n_theta, "covariance parameter"),
    ]
    mebibytes = gram.nbytes / 2**20
    lines = [
        ", ".join(counts),
        f"Cross-products: {f'{mebibytes:,.3g}' if mebibytes >= 1 else 'less than 1'} MiB",
        f"Eliminated level by level: {spec.factor_names[leading.index]}",
        f"Order of what is left: {leading.n_S:,}",
    ]
    if spec.n_dropped_missing or spec.n_dropped_zero_weight:
        lines.append(
            f"Left out: {spec.n_dropped_missing:,} rows with missing values, "
            f"{spec.n_dropped_zero_weight:,} of weight zero"
        )
    return "\n".join(lines)


def _terms(prepared: Prepared) -> TextTable:
    spec = prepared.spec
    rows = tuple(
        (f"({t.label})", f"{len(spec.groupings[t.factor]):,}", str(len(t.columns)), t.template)
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
    """One row per evaluation."""
    rows = tuple(
        (str(i), f"{entry.deviance:.8g}", _or_dash(entry.score_norm), entry.step)
        for i, entry in enumerate(fit.optimum.log, 1)
    )
    return TextTable(("", "deviance", "score norm", "step"), rows, left=0)


def _or_dash(norm: float) -> str:
    """A score norm; a dash where only the deviance was computed."""
    return "-" if np.isnan(norm) else f"{norm:.2e}"
