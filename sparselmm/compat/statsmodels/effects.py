"""Random effects by group, in statsmodels' shape: dictionaries whose entries are made when looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels.groups import LazyDict
from sparselmm.compat.statsmodels.params import VCSpec, lower_root
from sparselmm.errors import MemoryRefusedError
from sparselmm.machine import available_memory, size_text

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM


def names(model: MixedLM, group: int) -> list[str]:
    """Names of a group's random effects: columns of exog_re, then ``component[column]``."""
    out = list(model.exog_re_names)
    for component in model.components:
        out += [f"{component.name}[{text}]" for text in component.columns(group)[0]]
    return out


def means(model: MixedLM, modes: Sequence[Array]) -> dict:
    """Conditional means from the modes of all factors."""
    return LazyDict(
        model.group_labels,
        lambda g: pd.Series(group_means(model, modes, g), index=names(model, g)),
    )


def group_means(model: MixedLM, modes: Sequence[Array], group: int) -> Array:
    """Conditional means of one group."""
    layout = model.engine.layout
    pieces = []
    if layout.re is not None:
        pieces.append(modes[layout.re.factor][group, layout.re.columns])
    for place, component in zip(layout.vc, model.components, strict=True):
        _, coefficients = component.columns(group)
        own = modes[place.factor][:, place.columns].reshape(-1)
        pieces.append(np.where(coefficients >= 0, own[np.maximum(coefficients, 0)], 0.0))
    return np.concatenate(pieces)


def fitted(model: MixedLM, fe_params: Array, modes: Sequence[Array]) -> Array:
    """(n,) X beta + Z b."""
    out = model.predict(fe_params)
    for factor, b in zip(model.engine.prepared.design.factors, modes, strict=True):
        out = out + np.einsum("ia,ia->i", factor.Q, b[factor.codes])
    return out


def covariances(model: MixedLM, cov_re: Array, vcomp: Array, scale: float) -> dict:
    """Conditional covariances given the fixed effects: s L (L'Z'Z L + s I)^-1 L' with L L' = covariance."""

    def make(group: int) -> pd.DataFrame:
        own = names(model, group)
        _check_size(len(own))
        Z, variances = group_matrix(model, vcomp, group)
        L = np.zeros((len(own), len(own)))
        k = model.k_re
        L[:k, :k] = lower_root(cov_re)
        L[k:, k:] = np.diag(np.sqrt(variances))
        ZL = Z @ L
        inner = np.linalg.solve(ZL.T @ ZL + scale * np.eye(len(own)), L.T)
        return pd.DataFrame(scale * L @ inner, index=own, columns=own)

    return LazyDict(model.group_labels, make)


def group_matrix(model: MixedLM, vcomp: Array, group: int) -> tuple[Array, Array]:
    """Random-effects matrix of one group, and the variances of the columns after exog_re."""
    rows = model._groups.rows(group)
    blocks, variances = [], []
    if model.exog_re is not None:
        blocks.append(model.exog_re[rows])
    for component, variance in zip(model.components, vcomp, strict=True):
        blocks.append(component.matrix(group, rows))
        variances.append(np.full(blocks[-1].shape[1], variance))
    return np.hstack(blocks), np.concatenate([*variances, np.empty(0)])


def _check_size(order: int) -> None:
    needed = 32.0 * order**2
    free = available_memory(needed)
    if needed > free:
        raise MemoryRefusedError(
            f"The covariance of {order:,} random effects of one group needs {size_text(needed)}; "
            f"{size_text(free)} are free. sparselmm.lmm gives their variances alone: "
            "fit.ranef(condvar=True)."
        )


def forget_rows(model: MixedLM) -> None:
    """Leave of a model what does not grow with the number of rows."""
    k_fe, k_re = model.k_fe, model.k_re
    model.endog, model.exog = np.empty(0), np.empty((0, k_fe))
    model.exog_re = np.empty((0, k_re)) if k_re else None
    model.exog_vc = VCSpec(list(model.exog_vc.names), [], [])
    _ = model.k_constant
    model._labels = np.empty(0)
    model.rows_removed = True
    data = model.data
    data.orig_endog = data.orig_exog = None
    data.row_labels = None
    if data.frame is not None:
        _ = data.model_spec
        data.frame = data.frame.iloc[:0]
