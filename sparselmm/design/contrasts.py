"""Contrasts by name, as the ``contrasts`` argument takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.data import Column
from sparselmm.errors import DataError

NAMES = ("treatment", "sum", "helmert", "poly", "diff", "sas")


def contrast(variable: str, choice: Any, levels: Sequence[Any]) -> Any:
    """Turn a name or a matrix into formulaic's contrast; a contrast of formulaic is passed on.

    None for a single level, which has no contrasts.

    Raises
    ------
    DataError
        When the name is unknown, and for a matrix without one row per level.
    """
    from formulaic.transforms.contrasts import Contrasts, CustomContrasts

    if len(levels) < 2:
        return None
    if isinstance(choice, str):
        return _named(variable, choice)
    if isinstance(choice, (Contrasts, type)):
        return choice
    names = list(choice) if isinstance(choice, (Mapping, pd.DataFrame)) else None
    return CustomContrasts(_matrix(variable, choice, levels), names)


def _matrix(variable: str, choice: Any, levels: Sequence[Any]) -> Array:
    """Columns of a coding, (l, k) with k < l; a vector is one column, labelled rows find their level."""
    if isinstance(choice, pd.DataFrame) and set(choice.index) == set(levels):
        choice = choice.loc[list(levels)]
    matrix: Array = np.empty(())
    try:
        values = np.column_stack(list(choice.values())) if isinstance(choice, Mapping) else choice
        matrix = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        pass
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    l = len(levels)
    fits = matrix.ndim == 2 and len(matrix) == l and 0 < matrix.shape[1] < l
    if not fits or not np.isfinite(matrix).all():
        shown = f"{', '.join(map(str, levels[:5]))}{', ...' if l > 5 else ''}"
        raise DataError(
            f"contrasts['{variable}'] {_found(choice, matrix)}, expected finite numbers in a row for "
            f"each of the {l} levels that occur ({shown}) and at most {l - 1} "
            f"column{'s' * (l > 2)}; correct the matrix, or name a contrast such as 'sum'."
        )
    return matrix


def _found(choice: Any, matrix: Array) -> str:
    if not matrix.ndim:
        return f"is of type {type(choice).__name__}"
    bad = int((~np.isfinite(matrix)).sum())
    return f"has shape {matrix.shape}" + (f" with {bad} values that are not finite" if bad else "")


def _named(variable: str, choice: str) -> Any:
    """formulaic's contrast of a name.

    ``helmert`` is R's ``contr.helmert``: each level against the mean of the ones before,
    unscaled.
    """
    from formulaic.transforms.contrasts import ContrastsRegistry

    makers = {
        "treatment": ContrastsRegistry.treatment,
        "sum": ContrastsRegistry.sum,
        "helmert": lambda: ContrastsRegistry.helmert(reverse=True, scale=False),
        "poly": ContrastsRegistry.poly,
        "diff": ContrastsRegistry.diff,
        "sas": ContrastsRegistry.SAS,
    }
    if choice.lower() not in makers:
        raise DataError(
            f"contrasts['{variable}'] is '{choice}', expected one of {', '.join(NAMES)}, "
            "a contrast of formulaic or a matrix."
        )
    return makers[choice.lower()]()


def check_contrasts(
    contrasts: Mapping[str, Any] | None, used: Mapping[str, Column]
) -> Mapping[str, Any]:
    """Contrasts per variable, all of which are categorical columns that the formula uses.

    Raises
    ------
    DataError
        For a column that the formula does not use or that is not categorical, and for an
        unknown name.
    """
    if contrasts is None:
        return {}
    if not isinstance(contrasts, Mapping):
        example = next((name for name, c in used.items() if c.kind == "category"), "column")
        raise DataError(
            f"Found contrasts of type {type(contrasts).__name__}; expected a mapping from columns "
            f"to contrasts, for example {{'{example}': 'sum'}}."
        )
    for name, choice in contrasts.items():
        if name not in used:
            raise DataError(
                f"contrasts name '{name}', expected predictors of the formula "
                f"({', '.join(used) or 'there are none'}); remove it or correct the name."
            )
        if used[name].kind != "category":
            raise DataError(
                f"contrasts['{name}']: the column holds {used[name].describe()}, text or "
                "categories are expected; make it categorical first."
            )
        if isinstance(choice, str):
            _named(name, choice)
    return dict(contrasts)
