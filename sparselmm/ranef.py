"""Random effects: conditional modes, their standard deviations, coefficients per level."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.fit import Fit


def ranef(fit: Fit, condvar: bool = True) -> pd.DataFrame:
    """Conditional modes of the random effects, one row per effect and level.

    Parameters
    ----------
    condvar : bool
        Whether to add the conditional standard deviations, which cost about two factorisations.

    Returns
    -------
    pandas.DataFrame
        Columns ``grpvar, term, grp, condval, condsd`` as in ``as.data.frame(ranef(m))`` of lme4:
        grouping factor, effect, level, mode, standard deviation given theta and beta. Factors in
        order of decreasing number of levels; effect by effect, levels in their order.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.ranef().head(2).round(3)
        grpvar       term  grp  condval  condsd
    0  Subject  Intercept  308    2.259  12.071
    1  Subject  Intercept  309  -40.399  12.071
    """
    modes = fit.b()
    sds = [_sd(blocks) for blocks in fit.condvar()] if condvar else None
    frames = []
    for j, b in enumerate(modes):
        frame = _frame(fit, j, b)
        if sds is not None:
            frame["condsd"] = sds[j].T.ravel()
        frames.append(frame)
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def effect_names(fit: Fit, factor: int) -> list[str]:
    """Names of the effects that vary by a factor, in the order of its columns."""
    own = sorted((t for t in fit.spec.terms if t.factor == factor), key=lambda term: term.start)
    return [name for term in own for name in term.columns]


def _sd(blocks: Array) -> Array:
    """Roots of the diagonals, shape (l, s); rounding may leave tiny negative ones at a boundary."""
    return np.sqrt(np.maximum(np.einsum("laa->la", blocks), 0.0))


def _frame(fit: Fit, factor: int, b: Array) -> pd.DataFrame:
    levels, s = b.shape
    names = np.array(effect_names(fit, factor), dtype=object)
    labels = fit.spec.levels[factor].to_numpy(dtype=object)
    return pd.DataFrame(
        {
            "grpvar": np.full(levels * s, fit.spec.factor_names[factor], dtype=object),
            "term": np.repeat(names, levels),
            "grp": np.tile(labels, s),
            "condval": b.T.ravel(),
        }
    )


def coef(fit: Fit) -> dict[str, pd.DataFrame]:
    """Coefficients of every level: fixed effects plus conditional modes.

    Returns
    -------
    dict of str to pandas.DataFrame
        Per grouping factor a frame with one row per level and one column per fixed effect, then
        those random effects that have no fixed counterpart.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit.coef()["Subject"].head(2).round(3)
             Intercept    Days
    Subject
    308        253.664  19.666
    309        211.007   1.848
    """
    return {name: _coef(fit, j, b) for j, (name, b) in enumerate(_named_modes(fit))}


def _named_modes(fit: Fit) -> list[tuple[str, Array]]:
    return list(zip(fit.spec.factor_names, fit.b(), strict=True))


def _coef(fit: Fit, factor: int, b: Array) -> pd.DataFrame:
    fixed = dict(zip((fit.spec.column_names[i] for i in fit.kept), fit.beta, strict=True))
    effects = effect_names(fit, factor)
    columns = {
        name: np.full(len(b), fixed.get(name, 0.0))
        for name in dict.fromkeys([*fit.spec.column_names, *effects])
        if name in fixed or name in effects
    }
    for name, values in zip(effects, b.T, strict=True):
        columns[name] = columns[name] + values
    index = fit.spec.levels[factor].rename(fit.spec.factor_names[factor])
    return pd.DataFrame(columns, index=index)
