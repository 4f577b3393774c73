"""`MixedLM`: statsmodels' model class on the engine."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels import formulas, likelihood, prediction
from sparselmm.compat.statsmodels.components import Component, components_of
from sparselmm.compat.statsmodels.data import ModelData, column, complete_rows, re_names, table
from sparselmm.compat.statsmodels.describe import (
    describe,
    groups_of,
    same_index,
    same_length,
    vc_spec,
)
from sparselmm.compat.statsmodels.engine import Engine
from sparselmm.compat.statsmodels.fitting import fit
from sparselmm.compat.statsmodels.front import from_formula
from sparselmm.compat.statsmodels.groups import LazyDict, group_values
from sparselmm.compat.statsmodels.mapping import make_design
from sparselmm.compat.statsmodels.params import MixedLMParams
from sparselmm.compat.statsmodels.regularized import fit_regularized
from sparselmm.errors import DataError
from sparselmm.fit import prepare


class MixedLM:
    """A linear mixed model with the interface of statsmodels' class of this name.

    Parameters
    ----------
    endog : array_like, shape (n,)
        Response.
    exog : array_like, shape (n, k_fe)
        Columns with fixed effects.
    groups : array_like, shape (n,)
        Labels of the groups; rows of different groups are independent.
    exog_re : array_like, shape (n, k_re), optional
        Columns with random effects that are correlated within a group; an intercept when neither this
        nor `exog_vc` is given.
    exog_vc : VCSpec or dict, optional
        Variance components; the dictionary is statsmodels' older format.
    use_sqrt : bool
        Whether packed parameters, scores and `free` masks refer to the Cholesky factor of cov_re.
    missing : {"none", "drop", "raise"}
        What to do with missing values; "none" and "raise" refuse them.

    Attributes
    ----------
    k_fe, k_re, k_re2, k_vc, nobs, n_groups : int
    endog_names, exog_names, exog_re_names, exog_vc_names
        Names of the response and of the columns.

    Examples
    --------
    >>> import sparselmm as slm
    >>> sleep = slm.load_dataset("sleepstudy")
    >>> model = slm.MixedLM.from_formula(
    ...     "Reaction ~ Days", sleep, groups="Subject", re_formula="~Days"
    ... )
    >>> print(model.fit().fe_params.round(3).to_dict())
    {'Intercept': 251.405, 'Days': 10.467}
    """

    from_formula = classmethod(from_formula)
    fit = fit
    fit_regularized = fit_regularized
    loglike = likelihood.loglike
    score = likelihood.score
    hessian = likelihood.hessian
    get_fe_params = likelihood.get_fe_params
    get_scale = likelihood.get_scale
    score_full = likelihood.score_full
    score_sqrt = likelihood.score_sqrt
    information = likelihood.information
    get_distribution = likelihood.get_distribution
    predict = prediction.model_means

    def __init__(
        self,
        endog: Any,
        exog: Any,
        groups: Any,
        exog_re: Any = None,
        exog_vc: Any = None,
        use_sqrt: bool = True,
        missing: str = "none",
        **kwargs: Any,
    ) -> None:
        described: ModelData | None = kwargs.pop("_described", None)
        self.formula = kwargs.pop("formula", None)
        unknown = sorted(set(kwargs) - {"missing_idx", "model_spec"})
        if unknown:
            raise ValueError(
                f"argument {unknown[0]} not permitted for MixedLM; expected endog, exog, groups, exog_re, "
                "exog_vc, use_sqrt, missing."
            )
        y = column(endog, "endog")
        X = np.empty((len(y), 0)) if exog is None else table(exog, "exog")
        Q = None if exog_re is None else table(exog_re, "exog_re")
        no_re = Q is not None and not Q.shape[1]
        Q = None if no_re else Q
        labels = group_values(groups)
        same_length(y, exog=X, exog_re=Q, groups=labels)
        same_index(endog, exog)
        rows = complete_rows({"endog": y, "exog": X, "exog_re": Q, "groups": labels}, missing)
        if rows is not None:
            if exog_vc is not None:
                raise DataError(
                    "Rows with missing values cannot be dropped from the matrices of exog_vc; drop them before, "
                    "or use from_formula with missing='drop'."
                )
            y, X, labels = y[rows], X[rows], labels[rows]
            Q = None if Q is None else Q[rows]
        self.use_sqrt = use_sqrt
        self.endog, self.exog = y, X
        self._groups = groups_of(exog_vc, labels)
        self.exog_vc = vc_spec(exog_vc, self._groups)
        if no_re and not self.exog_vc.names:
            raise DataError(
                "exog_re has no column and exog_vc no component; expected at least one random effect. Leave "
                "exog_re out for a random intercept."
            )
        if Q is None and not self.exog_vc.names:
            Q = np.ones((len(y), 1))
            default = True
        else:
            default = False
        self.exog_re = Q
        self._labels = labels
        names = ["Group Var"] if default else re_names(exog_re, 0 if Q is None else Q.shape[1])
        self.data = described or describe(endog, exog, X, names, default, self.exog_vc, rows)
        self.reml = True
        self.fe_pen = self.cov_pen = self.re_pen = None
        self._freepat: MixedLMParams | None = None
        self.rows_removed = False

    @property
    def endog_names(self) -> str:
        """Name of the response."""
        return self.data.ynames

    @property
    def exog_names(self) -> list[str]:
        """Names of the fixed effects."""
        return self.data.xnames

    @property
    def exog_re_names(self) -> list[str]:
        """Names of the random-effects columns."""
        return self.data.exog_re_names

    @property
    def exog_vc_names(self) -> list[str]:
        """Names of the variance components."""
        return list(self.exog_vc.names)

    @property
    def k_fe(self) -> int:
        """Fixed effects."""
        return self.exog.shape[1]

    @property
    def k_re(self) -> int:
        """Columns with correlated random effects."""
        return 0 if self.exog_re is None else self.exog_re.shape[1]

    @property
    def k_re2(self) -> int:
        """Elements of the lower triangle of cov_re."""
        return self.k_re * (self.k_re + 1) // 2

    @property
    def k_vc(self) -> int:
        """Variance components."""
        return len(self.exog_vc.names)

    @property
    def k_params(self) -> int:
        """Fixed effects and elements of cov_re."""
        return self.k_fe + self.k_re2

    @property
    def nobs(self) -> int:
        """Rows."""
        return len(self.endog)

    @property
    def n_totobs(self) -> int:
        """Rows."""
        return self.nobs

    @property
    def n_groups(self) -> int:
        """Groups."""
        return len(self._groups.labels)

    @property
    def groups(self) -> Array:
        """Labels of the rows."""
        return np.asarray(self._labels)

    @cached_property
    def group_labels(self) -> list:
        """Distinct labels, sorted."""
        return list(self._groups.labels)

    @cached_property
    def row_indices(self) -> dict:
        """Rows of every group."""
        return LazyDict(self.group_labels, lambda g: self._groups.rows(g).tolist())

    @property
    def endog_li(self) -> list[Array] | None:
        """The response by groups."""
        return self.group_list(self.endog)

    @property
    def exog_li(self) -> list[Array] | None:
        """exog by groups."""
        return self.group_list(self.exog)

    @property
    def exog_re_li(self) -> list[Array] | None:
        """exog_re by groups."""
        return self.group_list(self.exog_re)

    @property
    def exog_re2_li(self) -> list[Array] | None:
        """Cross-products of exog_re by groups."""
        return None if self.exog_re is None else [Q.T @ Q for Q in self.exog_re_li or []]

    @cached_property
    def k_constant(self) -> int:
        """1 when the columns of exog span a constant."""
        if not len(self.exog):
            return 0
        ones = np.ones(len(self.exog))
        fitted = self.exog @ np.linalg.lstsq(self.exog, ones, rcond=None)[0]
        return int(np.allclose(fitted, ones, rtol=0.0, atol=1e-8))

    @cached_property
    def components(self) -> list[Component]:
        """The variance components as codes and values."""
        return components_of(self.exog_vc, self._groups)

    @cached_property
    def engine(self) -> Engine:
        """The cross-products and the penalised system, made once."""
        return self._engine(diagonal=False)

    @cached_property
    def diagonal_engine(self) -> Engine:
        """The same with independent random effects."""
        return self._engine(diagonal=True) if self.k_re > 1 else self.engine

    def _engine(self, *, diagonal: bool) -> Engine:
        if self.rows_removed:
            raise DataError(
                "The rows of this model were removed (remove_data); what needs them is gone. Fit again, or "
                "compute it before removing them."
            )
        names = (self.exog_names, self.exog_re_names, self.endog_names)
        spec, design, layout = make_design(
            self.endog,
            self.exog,
            names,
            self._groups,
            self.exog_re,
            self.components,
            diagonal=diagonal,
        )
        return Engine(prepare(spec, design), layout, self.k_fe)

    def with_response(self, y: Array) -> MixedLM:
        """The same model with another response; the analysis of the design is shared.

        Parameters
        ----------
        y : ndarray, shape (n,)
        """
        again = copy(self)
        for name in ("engine", "diagonal_engine"):
            again.__dict__.pop(name, None)
        again.endog = column(y, "endog")
        again.__dict__["components"] = self.components
        again.__dict__["engine"] = self.engine.with_response(again.endog)
        if self.k_re > 1 and self._freepat is not None:
            again.__dict__["diagonal_engine"] = self.diagonal_engine.with_response(again.endog)
        return again

    def group_list(self, array: Any) -> list[Array] | None:
        """An array split by the groups, in sorted order; None for None."""
        if array is None:
            return None
        values = np.asarray(array)[self._groups.order]
        return np.split(values, self._groups.start[1:-1])

    def predict_frame(self, data: Any) -> pd.DataFrame:
        """exog for new data, of a model made from a formula."""
        source = self.data
        assert source.formula is not None
        assert source.frame is not None
        right = formulas.two_sides(source.formula)[1]
        plain = formulas.plain_columns(right, source.frame)
        spec = None if plain is not None else source.model_spec
        columns = (self.exog_names, formulas.used_columns(source.frame, [right]))
        return formulas.repeat(right, spec, columns, data, source.env)

    def _get_init_kwds(self) -> dict[str, Any]:
        """Arguments, beside endog and exog, that make this model again."""
        kwds = {"groups": self._labels, "exog_re": self.exog_re, "exog_vc": self.exog_vc}
        return {**kwds, "use_sqrt": self.use_sqrt, "formula": self.formula}

    def __getstate__(self) -> dict[str, Any]:
        """Without what is cheap to make again."""
        state = dict(self.__dict__)
        for name in ("engine", "diagonal_engine", "row_indices"):
            state.pop(name, None)
        return state
