"""The mean of new rows, with or without random effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from sparselmm._types import Array, NewDesign
from sparselmm.data import open_table
from sparselmm.errors import InferenceError
from sparselmm.fit import Fit
from sparselmm.rows import factor_part, fixed_part, row_index

NewLevels = Literal["raise", "zero"]


def predict(
    fit: Fit,
    newdata: Any = None,
    random: str | Sequence[str] = "all",
    new_levels: NewLevels = "raise",
) -> pd.Series:
    """Predicted means, shape (n_new,): arguments and errors are those of `sparselmm.inference.prediction.predict`.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> predict(fit.fit, {"Days": [9, 10]}, random="none").round(2).tolist()
    [345.61, 356.08]
    """
    terms = chosen_terms(fit, random)
    if new_levels not in ("raise", "zero"):
        raise InferenceError(f"Found new_levels={new_levels!r}; expected 'raise' or 'zero'.")
    b = modes_of(fit, terms)
    if newdata is None:
        return pd.Series(_own_rows(fit, b), index=row_index(fit), name="predicted")
    new = fit.spec.encode(newdata, terms=terms)
    if new_levels == "raise":
        refuse_new_levels(fit, newdata, new, terms)
    index = new.index if isinstance(new.index, pd.Index) else pd.RangeIndex(len(new.missing))
    return pd.Series(mean(fit, new, b), index=index, name="predicted")


def mean(fit: Fit, new: NewDesign, b: Sequence[Array]) -> Array:
    """X beta + Z b + formula's offset, shape (n_new,); NaN in rows with missing values."""
    total = np.asarray(new.X)[:, fit.kept] @ fit.beta
    if new.offset is not None:
        total = total + new.offset
    for codes, Q, own in zip(new.codes, new.Q, b, strict=True):
        total = total + factor_part(codes, Q, own)
    return np.where(new.missing, np.nan, total)


def _own_rows(fit: Fit, b: Sequence[Array]) -> Array:
    total = fixed_part(fit)
    for factor, own in zip(fit.design.factors, b, strict=True):
        total = total + factor_part(factor.codes, factor.Q, own)
    return total


def modes_of(fit: Fit, terms: Sequence[int]) -> list[Array]:
    """Conditional modes, shape (l_j, s_j) per factor, zero for terms that are not asked for."""
    modes = fit.b()
    if len(terms) == len(fit.spec.terms):
        return modes
    chosen = [np.zeros_like(b) for b in modes]
    for part in (fit.model.parts[i] for i in terms):
        chosen[part.factor][:, part.columns] = modes[part.factor][:, part.columns]
    return chosen


def chosen_terms(fit: Fit, random: str | Sequence[str]) -> tuple[int, ...]:
    """Indices of the random-effects terms that a user names.

    Raises
    ------
    InferenceError
        For names that are no term.
    """
    terms = fit.spec.terms
    if not isinstance(random, str | Sequence):
        raise InferenceError(
            f"Found random={random!r}; expected 'all', 'none' or a list of terms or grouping factors."
        )
    if isinstance(random, str) and random in ("all", "none"):
        return tuple(range(len(terms))) if random == "all" else ()
    chosen: set[int] = set()
    for name in [random] if isinstance(random, str) else random:
        found = [i for i, t in enumerate(terms) if _squeeze(name) in _names(t.label, t.grouping)]
        if not found:
            known = ", ".join(f"'{term.label}'" for term in terms)
            raise InferenceError(
                f"Found random={name!r}; expected 'all', 'none', or some of the terms {known} or "
                "of their grouping factors."
            )
        chosen.update(found)
    return tuple(sorted(chosen))


def _names(label: str, grouping: str) -> set[str]:
    return {_squeeze(label), _squeeze(f"({label})"), _squeeze(grouping)}


def _squeeze(text: str) -> str:
    return "".join(text.split())


def refuse_new_levels(fit: Fit, newdata: Any, new: NewDesign, terms: Sequence[int]) -> None:
    """Raise where a complete row has a level that the model was not fitted with.

    Raises
    ------
    InferenceError
        Naming the factor, the first new levels and the way out.
    """
    for j in sorted({fit.spec.terms[i].factor for i in terms}):
        unseen = np.flatnonzero((new.codes[j] < 0) & ~new.missing)
        if len(unseen):
            labels = _labels(newdata, fit.spec.groupings[j].columns, unseen)
            shown = ", ".join(f"'{label}'" for label in labels[:3])
            more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
            levels = "level" if len(labels) == 1 else "levels"
            raise InferenceError(
                f"Grouping factor '{fit.spec.factor_names[j]}' has new {levels} {shown}{more} in "
                f"{len(unseen)} of {len(new.missing)} rows; expected levels the model was fitted "
                "with. Pass new_levels='zero' to predict them at their expected random effects, or "
                "random='none'."
            )


def _labels(newdata: Any, columns: Sequence[str], rows: Array) -> list[str]:
    """Distinct texts of some rows of a grouping factor, in order of appearance."""
    table = open_table(newdata)
    parts = [table.column(name).take(rows).series().astype(str) for name in columns]
    return list(dict.fromkeys(":".join(row) for row in zip(*parts, strict=True)))
