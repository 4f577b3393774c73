"""Tests of random effects: every term, and every column of a term, left out in turn.

Under the null hypothesis a variance is zero, on the boundary of what it may be, and the likelihood ratio does not
follow a chi-square distribution. Three answers:

mixture    the chi-bar-square distribution of large samples (`sparselmm.inference.chibar`)
exact      the finite-sample distribution, simulated from its spectral form; for one variance, and approximate
           where there are others (`sparselmm.inference.rlrt`)
bootstrap  refits of responses simulated from the smaller model
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.criterion import Solution, solve_at
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit
from sparselmm.inference.chibar import (
    Mixture,
    conditional_information,
    cone_mixture,
    half_and_half,
)
from sparselmm.inference.nullsim import bootstrap_ratios
from sparselmm.inference.reduce import Reduced, linear_deviance, reduce_fit
from sparselmm.inference.rlrt import Spectra, simulate_null, single_spectra, whitened_spectra
from sparselmm.marginal import Direction
from sparselmm.optimum import Optimum
from sparselmm.refits.responses import make_generator
from sparselmm.threads import limited_threads

TESTS = ("mixture", "exact", "bootstrap")
SLACK = 1e-6  # deviance by which a smaller model may beat a larger one through rounding


@dataclass(frozen=True, slots=True)
class Drop:
    """Random effects to leave out.

    Attributes
    ----------
    term : int
    columns : tuple of int
        Columns within the term.
    label : str
    """

    term: int
    columns: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class RandomEffectsTests:
    """Likelihood-ratio tests of random effects.

    Attributes
    ----------
    table : pandas.DataFrame
        First row the model itself, then one per test; columns ``npar, loglik, aic, lrt, df, p, reference``: the
        last names the null distribution.
    reml : bool
        Whether the likelihoods are restricted ones.
    notes : tuple of str
    """

    table: pd.DataFrame
    reml: bool
    notes: tuple[str, ...]

    def __str__(self) -> str:
        kind = "restricted likelihood" if self.reml else "likelihood"
        text = self.table.to_string(float_format=lambda v: f"{v:.4g}", na_rep="")
        lines = [f"Random effects left out in turn ({kind} ratios)", "", text]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{note}</p>" for note in self.notes)
        return self.table.to_html(na_rep="") + notes


def ranova(
    fit: Fit,
    *,
    test: str = "mixture",
    nsim: int | None = None,
    rng: np.random.Generator | int | None = None,
) -> RandomEffectsTests:
    """Likelihood-ratio tests of the random effects: each term, and each column of a term, left out.

    Parameters
    ----------
    fit : Fit
        REML or ML; the smaller models use the same criterion.
    test : str
        ``"mixture"``: chi-bar-square, valid in large samples. ``"exact"``: simulated finite-sample
        distribution for single variances: exact when the model has no other random effect, else approximate, with
        the other variances at their estimates under the null, and called so. Other rows fall back on the mixture
        and say so.
        ``"bootstrap"``: parametric bootstrap of the likelihood ratio.
    nsim : int, optional
        Simulated ratios: 10,000 for ``"exact"``, 1,000 for ``"bootstrap"``.
    rng : numpy.random.Generator or int, optional
        For the simulations.

    Returns
    -------
    RandomEffectsTests

    Raises
    ------
    InferenceError
        For an unknown test, a number of simulations below 100, and a fit that did not converge.

    Notes
    -----
    The mixtures: half chi-square(0), half chi-square(1) for one variance; half chi-square(q), half
    chi-square(q + 1) for a slope with q covariances (Stram & Lee 1994, Biometrics 50, 1171-1177); for a whole
    term of several effects the cone of covariance matrices decides (Shapiro 1985, Biometrika 72, 133-144). Every
    test gives p = 1 where the likelihood ratio is zero. The exact test is that of Crainiceanu & Ruppert (2004),
    JRSS B 66, 165-185; with other random effects it follows Greven, Crainiceanu, Kuechenhoff & Peters (2008), JCGS
    17, 870-891, with degrees of freedom as `sparselmm.inference.rlrt` derives them.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.ranova().table[["npar", "lrt", "df"]].round(2)
                              npar     lrt  df
    <none>                       6     NaN   0
    (Days | Subject)             3  150.04   3
    Days in (Days | Subject)     4   42.84   2
    """
    nsim = _check(fit, test, nsim)
    rng = make_generator(rng)
    notes: list[str] = []
    rows = [_row(fit, "<none>", fit.n_theta, fit.deviance)]
    with limited_threads(fit.prepared.threads(fit.options)):
        for drop in drops(fit):
            rows.append(_test(fit, drop, test, nsim, rng, notes))
    table = pd.DataFrame(rows).set_index("effect").rename_axis(None)
    return RandomEffectsTests(table, fit.reml, tuple(dict.fromkeys(notes)))


def drops(fit: Fit) -> list[Drop]:
    """What can be left out: each term, then each of its columns but the intercept."""
    out = []
    for t, term in enumerate(fit.spec.terms):
        out.append(Drop(t, tuple(range(len(term.columns))), f"({term.label})"))
        if len(term.columns) > 1 and term.template != "scalar":
            out += [
                Drop(t, (c,), f"{name} in ({term.label})")
                for c, name in enumerate(term.columns)
                if name != "Intercept"
            ]
    return out


def _check(fit: Fit, test: str, nsim: int | None) -> int:
    if test not in TESTS:
        raise InferenceError(f"Found test={test!r}; expected one of {', '.join(map(repr, TESTS))}.")
    if not fit.optimum.converged:
        raise InferenceError(
            f"Found a fit that is {fit.optimum.outcome.value}; expected a converged one to compare smaller models with."
        )
    if nsim is None:
        return 1_000 if test == "bootstrap" else 10_000
    if not isinstance(nsim, (int, np.integer)) or nsim < 100:
        raise InferenceError(f"Found nsim={nsim!r}; expected at least 100 simulated ratios.")
    return int(nsim)


def _row(fit: Fit, effect: str, n_theta: int, deviance: float, **test) -> dict:
    npar = fit.p + n_theta + 1
    blank = {"lrt": np.nan, "df": 0, "p": np.nan, "reference": ""}
    return {
        "effect": effect,
        "npar": npar,
        "loglik": -0.5 * deviance,
        "aic": deviance + 2.0 * npar,
        **blank,
        **test,
    }


def _test(
    fit: Fit, drop: Drop, test: str, nsim: int, rng: np.random.Generator, notes: list[str]
) -> dict:
    reduced = reduce_fit(fit, [(drop.term, c) for c in drop.columns])
    optimum = None if reduced.problem is None else reduced.minimise()
    deviance = (
        linear_deviance(reduced.gram, reml=fit.reml)
        if optimum is None
        else optimum.solution.deviance
    )
    ratio, df = deviance - fit.deviance, fit.n_theta - reduced.n_theta
    if ratio < -SLACK * max(1.0, 1e-6 * abs(deviance)):
        notes.append(
            f"without {drop.label} the deviance is lower by {-ratio:.2g}: the fit is not at its optimum"
        )
    ratio = ratio if ratio > SLACK else 0.0
    if test == "exact" and df > 1:
        notes.append(
            "no exact test leaves out more than one parameter: these rows have the mixture"
        )
    p, reference = _p_value(fit, drop, reduced, optimum, ratio, test, nsim, rng)
    return _row(
        fit, drop.label, reduced.n_theta, deviance, lrt=ratio, df=df, p=p, reference=reference
    )


def _p_value(
    fit: Fit, drop: Drop, reduced: Reduced, optimum: Optimum | None, ratio: float, test: str,
    nsim: int, rng: np.random.Generator,
) -> tuple[float, str]:  # fmt: skip
    """p and the name of its null distribution."""
    if test == "bootstrap":
        ratios = bootstrap_ratios(fit, reduced, optimum, nsim, rng)
        return tail_share(ratios, ratio), f"bootstrap, {len(ratios)} of {nsim} refits"
    if test == "exact" and fit.n_theta - reduced.n_theta == 1:
        spectra, kind = _spectra(fit, drop, reduced, optimum)
        if spectra is not None:
            ratios = simulate_null(spectra, reml=fit.reml, nsim=nsim, rng=rng)
            return tail_share(ratios, ratio), f"{kind}, {nsim} ratios"
    mixture = null_mixture(fit, drop, reduced, optimum)
    return mixture.tail(ratio), mixture.name


def tail_share(ratios: Array, ratio: float) -> float:
    """Share of simulated ratios at least as large as the one seen, which counts among them; 1 at zero."""
    if ratio <= 0.0:
        return 1.0
    return float((1 + np.count_nonzero(ratios >= ratio)) / (1 + len(ratios)))


def null_mixture(fit: Fit, drop: Drop, reduced: Reduced, optimum: Optimum | None) -> Mixture:
    """The chi-bar-square distribution of one test."""
    term, part = fit.spec.terms[drop.term], fit.model.parts[drop.term]
    df = fit.n_theta - reduced.n_theta
    if df == 1 or len(drop.columns) < len(term.columns):
        return half_and_half(df)
    null = _null_solution(fit, reduced, optimum)
    own = range(part.theta.start, part.theta.stop)
    tested = [fit.model.directions[i] for i in own]
    information = conditional_information(fit.gram, null, tested, _others(fit, drop, null))
    if information is None:
        return half_and_half(df)
    return cone_mixture(information, [S[part.columns, part.columns] for _, S in tested])


def _others(fit: Fit, drop: Drop, null: Solution) -> list[Direction]:
    """Directions of the covariances that are not tested, relative to their estimates under the null."""
    part = fit.model.parts[drop.term]
    out = []
    for i, (factor, S) in enumerate(fit.model.directions):
        if not part.theta.start <= i < part.theta.stop:
            T = null.T[factor]
            out.append((factor, T @ S @ T.T))
    return out


def _null_solution(fit: Fit, reduced: Reduced, optimum: Optimum | None) -> Solution:
    """The larger model at the smaller one's optimum: T zero for the effects left out."""
    T = reduced.factors(fit, optimum)
    return solve_at(fit.gram, fit.prepared.system, T, reml=fit.reml)


def _spectra(
    fit: Fit, drop: Drop, reduced: Reduced, optimum: Optimum | None
) -> tuple[Spectra | None, str]:
    part = fit.model.parts[drop.term]
    if optimum is None and fit.gram.shapes[0][1] == 1:
        return single_spectra(fit.gram), "exact"
    null = _null_solution(fit, reduced, optimum)
    column = np.zeros((fit.gram.shapes[part.factor][1], len(drop.columns)))
    for i, c in enumerate(drop.columns):
        column[part.columns.start + c, i] = 1.0
    kind = "exact" if optimum is None else "approximate (Greven et al. 2008)"
    others = _others(fit, drop, null)
    return whitened_spectra(fit.gram, null, part.factor, column, others), kind
