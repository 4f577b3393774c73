"""Contrasts by name, as the ``contrasts`` argument takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparselmm.data import Column
from sparselmm.errors import DataError

NAMES = ("treatment", "sum", "helmert", "poly", "diff", "sas")


def contrast(variable: str, choice: Any) -> Any:
    """Turn a name into formulaic's contrast; anything else is passed on.

    ``helmert`` is R's ``contr.helmert``: each level against the mean of the ones before,
    unscaled.

    Raises
    ------
    DataError
        When the name is unknown.
    """
    if not isinstance(choice, str):
        return choice
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
    for name, choice in contrasts.items():
        if name not in used:
            raise DataError(
                f"contrasts name '{name}', expected variables of the formula "
                f"({', '.join(used)}); remove it or correct the name."
            )
        if used[name].kind != "category":
            raise DataError(
                f"contrasts['{name}']: the column holds {used[name].describe()}, text or "
                "categories are expected; make it categorical first."
            )
        contrast(name, choice)
    return dict(contrasts)
