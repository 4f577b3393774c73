"""Which quantities of a fit are profiled: by name, all of them, or functions of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from sparselmm._types import Array
from sparselmm.fit import DEPENDENT, Fit
from sparselmm.inference.names import find_names
from sparselmm.inference.profile.surface import Held
from sparselmm.inference.profile.targets import (
    Correlation,
    Custom,
    FixedEffect,
    Function,
    Sigma,
    StandardDeviation,
    Target,
)
from sparselmm.linalg import spectrum
from sparselmm.varcorr import group_names

OTHERS = (
    " Variances are 'var_x|g' and 'sigma2', their share is 'icc'; for another quantity pass "
    "functions={name: f}."
)


def variance_targets(fit: Fit) -> list[Target]:
    """Standard deviations and correlations of every term, then sigma."""
    m, out = fit.model.n_theta, []
    for t, (term, part, group) in enumerate(
        zip(fit.spec.terms, fit.model.parts, group_names(fit.spec.terms), strict=True)
    ):
        s = len(term.columns)
        rows = np.zeros((s, m, s))
        rows[:, part.theta] = part.template.factor_basis.transpose(1, 0, 2)
        for i, name in enumerate(term.columns):
            out.append(
                StandardDeviation(
                    name=f"sd_{name}|{group}",
                    scale="log",
                    bounds=(0.0, np.inf),
                    row=rows[i],
                    place_in=(t, i),
                )
            )
        if term.template == "unstructured":
            out += [
                Correlation(
                    name=f"cor_{term.columns[i]}.{term.columns[j]}|{group}",
                    scale="atanh",
                    bounds=(-1.0, 1.0),
                    first=rows[i],
                    second=rows[j],
                    places=((t, i), (t, j)),
                )
                for i in range(s)
                for j in range(i + 1, s)
            ]
    return [*out, Sigma(name="sigma", scale="log", bounds=(0.0, np.inf))]


def dependent_terms(fit: Fit) -> list[int]:
    """Terms whose columns depend on each other: several covariance matrices give the same fit."""
    out = []
    for t, term in enumerate(fit.spec.terms):
        own = slice(term.start, term.stop)
        products = fit.gram.ZtZ[term.factor].sum(axis=0)[own, own]
        if term.template == "unstructured" and spectrum(products).values[0] < DEPENDENT:
            out.append(t)
    return out


def fixed_targets(fit: Fit) -> list[Target]:
    """The fixed effects that the model keeps."""
    basis = fit.gram.basis
    inverse = np.linalg.inv(basis.Rx) if fit.p else np.empty((0, 0))
    names = [fit.spec.column_names[k] for k in fit.kept]
    return [
        FixedEffect(name=name, held=Held(np.ascontiguousarray(row), float(at)))
        for name, row, at in zip(names, inverse, basis.beta0, strict=True)
    ]


def icc_target(parameters: tuple[Target, ...], fit: Fit) -> Target:
    """The share of the variance, averaged over the rows, that the random effects explain."""
    means = []
    for j, factor in enumerate(fit.design.factors):
        means.append((j, factor.Q.T @ factor.Q / fit.n))
    share = _Share(tuple(means), fit)
    return Custom(name="icc", function=share, parameters=parameters, bounds=(0.0, 1.0))


@dataclass(frozen=True)
class _Share:
    """Mean random-effects variance of a row over its total variance."""

    means: tuple[tuple[int, Array], ...]
    fit: Fit

    def __call__(self, values: Mapping[str, float]) -> float:
        explained = 0.0
        for term, group in zip(self.fit.spec.terms, group_names(self.fit.spec.terms), strict=True):
            M = self.means[term.factor][1][term.start : term.stop, term.start : term.stop]
            sd = np.array([values[f"sd_{name}|{group}"] for name in term.columns])
            R = np.eye(len(sd))
            for i in range(len(sd)):
                for j in range(i + 1, len(sd)):
                    name = f"cor_{term.columns[i]}.{term.columns[j]}|{group}"
                    R[i, j] = R[j, i] = values.get(name, 0.0)
            explained += float((M * R * np.multiply.outer(sd, sd)).sum())
        return explained / (explained + values["sigma"] ** 2)


def _squared(target: Target) -> Target:
    """The variance of a standard deviation: ``var_x|g``, ``sigma2``."""
    name = "sigma2" if target.name == "sigma" else "var_" + target.name.removeprefix("sd_")
    return replace(target, name=name, scale="square")


def find_targets(
    fit: Fit, parm: str | list[str] | None, functions: Mapping[str, Function] | None
) -> list[Target]:
    """The targets asked for, in the order of the question.

    Raises
    ------
    InferenceError
        For a name that the fit does not have.
    """
    variances, fixed = variance_targets(fit), fixed_targets(fit)
    own = [
        Custom(name=name, function=function, parameters=tuple(variances))
        for name, function in (functions or {}).items()
    ]
    squares = [_squared(t) for t in variances if t.scale == "log"]
    known = {target.name: target for target in (*squares, *variances, *fixed, *own)}
    if parm is None:
        return [*variances, *fixed, *own]
    shown = [target.name for target in (*variances, *fixed, *own)]
    names = find_names(parm, shown, also=[*known, "icc"], hint=OTHERS)
    names += [target.name for target in own if target.name not in names]
    return [known[name] if name in known else icc_target(tuple(variances), fit) for name in names]
