"""The front door: a formula and data to results, in one step or in two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparselmm._types import Array
from sparselmm.design import build_design
from sparselmm.fit import Prepared, fit, prepare
from sparselmm.options import Options
from sparselmm.results import Results


class LinearMixedModel:
    """A linear mixed model: formula and data, read and cross-multiplied, not yet fitted."""

    prepared: Prepared

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
        spec, design = build_design(formula, data, weights, offset, contrasts)
        self.prepared = prepare(spec, design, path)

    def fit(
        self, reml: bool = True, *, start: Array | None = None, options: Options | None = None
    ) -> Results:
        """Fit by restricted maximum likelihood, or by maximum likelihood."""
        return Results(fit(self.prepared, reml=reml, options=options or Options(), start=start))


def lmm(
    formula: str,
    data: Any,
    reml: bool = True,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    path: str = "auto",
    start: Array | None = None,
    options: Options | None = None,
) -> Results:
    """Fit a linear mixed model."""
    model = LinearMixedModel(
        formula, data, weights=weights, offset=offset, contrasts=contrasts, path=path
    )
    return model.fit(reml, start=start, options=options)
