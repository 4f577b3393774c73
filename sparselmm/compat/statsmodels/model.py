"""`MixedLM`: statsmodels' model class on the engine."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels import formulas
from sparselmm.compat.statsmodels.components import (
    CodedSpec,
    Component,
    components_of,
    spec_from_dict,
)
from sparselmm.compat.statsmodels.construct import caller_variables, formula_arguments
from sparselmm.compat.statsmodels.curvature import hessian
from sparselmm.compat.statsmodels.data import (
    ModelData,
    array_names,
    column,
    complete_rows,
    covariance_names,
    re_names,
    table,
)
from sparselmm.compat.statsmodels.distribution import MixedLMDistribution
from sparselmm.compat.statsmodels.engine import Engine, Point, at_params, gradient, refined_llf
from sparselmm.compat.statsmodels.estimate import Penalties
from sparselmm.compat.statsmodels.fitting import fit
from sparselmm.compat.statsmodels.groups import Groups, LazyDict, code_groups, group_values
from sparselmm.compat.statsmodels.mapping import make_design
from sparselmm.compat.statsmodels.params import MixedLMParams, VCSpec
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

    fit = fit
    fit_regularized = fit_regularized

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
        labels = group_values(groups)
        _same_length(y, exog=X, exog_re=Q, groups=labels)
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
        self._groups = _groups_of(exog_vc, labels)
        self.exog_vc = _vc_spec(exog_vc, self._groups)
        if Q is None and not self.exog_vc.names:
            Q = np.ones((len(y), 1))
            default = True
        else:
            default = False
        self.exog_re = Q
        self.groups = labels
        names = ["Group Var"] if default else re_names(exog_re, 0 if Q is None else Q.shape[1])
        self.data = described or _describe(endog, exog, X, names, default, self.exog_vc, rows)
        self.reml = True
        self.fe_pen = self.cov_pen = None
        self._freepat: MixedLMParams | None = None
        self.rows_removed = False

    @classmethod
    def from_formula(
        cls,
        formula: str,
        data: Any,
        re_formula: str | None = None,
        vc_formula: Mapping[str, str] | None = None,
        subset: Any = None,
        use_sparse: bool = False,
        missing: str = "none",
        *args: Any,
        **kwargs: Any,
    ) -> MixedLM:
        """A model from formulas and a table.

        Parameters
        ----------
        formula : str
            ``"y ~ x"``: response and fixed effects.
        data : DataFrame
            Or anything with columns: a dictionary, a polars frame.
        re_formula : str, optional
            Columns whose coefficients vary, correlated, between groups: ``"~x"`` is lme4's
            ``(x | groups)``. An intercept when neither this nor `vc_formula` is given.
        vc_formula : dict of str to str, optional
            Variance components, each evaluated within the groups: ``{"h": "0 + C(h)"}`` is
            ``(1 | groups:h)``, and ``(1 | h)`` when there is one group; ``{"x": "0 + x"}`` a slope with
            a variance of its own.
        subset : array_like, optional
            Booleans, or labels of the index, of the rows to use.
        use_sparse : bool
            Give the matrices of `exog_vc` as sparse arrays when they are looked at; the fit never
            makes them.
        missing : {"none", "drop", "raise"}
        groups : str or array_like
            Column of the data, or labels.
        eval_env : int or dict, optional
            Where formulas find names that are no columns: frames above the caller, or a dictionary.
        """
        if args:
            raise TypeError(
                "from_formula takes arguments after `missing` by name, such as groups=."
            )
        groups = kwargs.pop("groups", None)
        if groups is None:
            raise AttributeError(
                "'groups' is a required keyword argument in MixedLM.from_formula: a column name, or labels."
            )
        env = caller_variables(kwargs.pop("eval_env", None), 2 + int(kwargs.pop("_depth", 0)))
        given = {name: kwargs.pop(name, None) for name in ("exog_re", "exog_vc")}
        arguments, described = formula_arguments(
            formula,
            data,
            groups,
            re_formula,
            vc_formula,
            subset=subset,
            use_sparse=use_sparse,
            missing=missing,
            env=env,
        )
        if re_formula is None and vc_formula is None and any(v is not None for v in given.values()):
            arguments |= given
            described = _renamed(described, given)
        return cls(**arguments, formula=formula, _described=described, **kwargs)

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
    def group_labels(self) -> list:
        """Distinct labels, sorted."""
        return self._groups.labels

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

    def predict(self, params: Any, exog: Any = None) -> Array:
        """Means of the fixed part.

        Parameters
        ----------
        params : MixedLMParams or array_like
            Its first k_fe elements are the fixed effects.
        exog : array_like, shape (m, k_fe), optional
            The model's own when not given.
        """
        fe = params.fe_params if isinstance(params, MixedLMParams) else params
        beta = np.nan_to_num(np.asarray(fe, dtype=float)[: self.k_fe])
        return np.asarray(self.exog if exog is None else exog) @ beta

    def predict_frame(self, data: Any) -> pd.DataFrame:
        """exog for new data, of a model made from a formula."""
        formula = self.data.formula
        assert formula is not None
        plain = formulas.plain_columns(formulas.two_sides(formula)[1], self.data.frame)
        spec = None if plain is not None else self.data.model_spec
        return formulas.repeat(spec, self.exog_names, data, self.data.env)

    def loglike(self, params: Any, profile_fe: bool = True) -> float:
        """Log-likelihood (REML or ML as in the last fit), profiled over the scale.

        Parameters
        ----------
        params : MixedLMParams or array_like
            An array holds the packed covariance parameters.
        profile_fe : bool
            Take the GLS estimates of the fixed effects instead of those given.

        Examples
        --------
        >>> import sparselmm as slm
        >>> sleep = slm.load_dataset("sleepstudy")
        >>> model = slm.MixedLM.from_formula("Reaction ~ Days", sleep, groups="Subject")
        >>> round(model.loglike([1.0]), 4)
        -893.6095
        """
        point = self._point(self._params(params), profile_fe)
        full = self._params(params).copy()
        full.fe_params = self.engine.beta(point.solution)
        return refined_llf(point) - Penalties(self.fe_pen, self.cov_pen).value(full)

    def score(self, params: Any, profile_fe: bool = True) -> Array:
        """Gradient of `loglike` in the packed parameters (roots with `use_sqrt`), zero where masked.

        Parameters
        ----------
        params : MixedLMParams or array_like
        profile_fe : bool
            Without it the gradient begins with the fixed effects.
        """
        at = self._params(params).copy()
        point = self._point(at, profile_fe)
        at.fe_params = np.nan_to_num(self.engine.beta(point.solution))
        own = Penalties(self.fe_pen, self.cov_pen).slope(at, gradient(point))
        packed = own.packed_root(at.cov_re, at.vcomp) if self.use_sqrt else own.packed()
        whole = np.concatenate([own.fe, packed])
        if self._freepat is not None:
            whole = whole * self._freepat.get_packed(use_sqrt=False, has_fe=True)
        return whole[self.k_fe :] if profile_fe else whole

    def hessian(self, params: Any) -> tuple[Array, bool]:
        """Second derivatives in (fe_params, cov_re, vcomp), and whether a covariance is singular.

        Rows and columns of singular terms are NaN. Penalties do not count.

        Parameters
        ----------
        params : MixedLMParams or array_like
            An array begins with the fixed effects.
        """
        at = params
        if not isinstance(at, MixedLMParams):
            at = MixedLMParams.from_packed(at, self.k_fe, self.k_re, self.use_sqrt, True)
        return hessian(self.engine, at, reml=self.reml)

    def get_fe_params(self, cov_re: Any, vcomp: Any, tol: float = 1e-10) -> tuple[Array, bool]:
        """GLS estimates at given covariance parameters, and whether those are singular.

        Parameters
        ----------
        cov_re : array_like, shape (k_re, k_re)
        vcomp : array_like, shape (k_vc,)
        tol : float
            Eigenvalues below it count as singular; the estimates are exact in any case.
        """
        at = self._components(cov_re, vcomp)
        point = self._point(at, True)
        smallest = min([*np.linalg.eigvalsh(at.cov_re), *at.vcomp], default=1.0)
        return self.engine.beta(point.solution), bool(smallest < tol)

    def get_scale(self, fe_params: Any, cov_re: Any, vcomp: Any) -> float:
        """Residual variance at given fixed effects and relative covariance parameters."""
        at = self._components(cov_re, vcomp)
        at.fe_params = np.asarray(fe_params, dtype=float)
        return self._point(at, False).scale

    def get_distribution(self, params: Any, scale: float, exog: Any = None) -> MixedLMDistribution:
        """The distribution of the response at given parameters, to draw from with ``rvs``.

        Parameters
        ----------
        params : array_like
            Packed as `MixedLMResults.params`.
        scale : float
        exog : array_like, optional
            The model's own when not given.
        """
        return MixedLMDistribution(self, params, scale, exog)

    def _point(self, at: MixedLMParams, profile_fe: bool) -> Point:
        return at_params(self.engine, at, reml=self.reml, profile_fe=profile_fe)

    def _params(self, params: Any) -> MixedLMParams:
        if isinstance(params, MixedLMParams):
            return params
        return MixedLMParams.from_packed(params, self.k_fe, self.k_re, self.use_sqrt, False)

    def _components(self, cov_re: Any, vcomp: Any) -> MixedLMParams:
        return MixedLMParams.from_components(
            np.zeros(self.k_fe),
            cov_re=np.asarray(cov_re, dtype=float).reshape(self.k_re, self.k_re),
            vcomp=np.asarray(vcomp, dtype=float),
        )

    def _get_init_kwds(self) -> dict[str, Any]:
        """Arguments, beside endog and exog, that make this model again."""
        kwds = {"groups": self.groups, "exog_re": self.exog_re, "exog_vc": self.exog_vc}
        return {**kwds, "use_sqrt": self.use_sqrt, "formula": self.formula}

    def __getstate__(self) -> dict[str, Any]:
        """Without what is cheap to make again."""
        state = dict(self.__dict__)
        for name in ("engine", "diagonal_engine", "row_indices"):
            state.pop(name, None)
        return state


def mixedlm(
    formula: str,
    data: Any,
    re_formula: str | None = None,
    vc_formula: Mapping[str, str] | None = None,
    subset: Any = None,
    use_sparse: bool = False,
    missing: str = "none",
    **kwargs: Any,
) -> MixedLM:
    """A `MixedLM` from formulas; the arguments are those of `MixedLM.from_formula`.

    Examples
    --------
    >>> import sparselmm as slm
    >>> model = slm.mixedlm("Weight ~ Time", slm.load_dataset("dietox"), groups="Pig")
    >>> round(model.fit().scale, 4)
    11.3669
    """
    return MixedLM.from_formula(
        formula, data, re_formula, vc_formula, subset, use_sparse, missing, _depth=1, **kwargs
    )


def _same_length(y: Array, **others: Any) -> None:
    for name, values in others.items():
        if values is not None and len(values) != len(y):
            raise DataError(
                f"{name} has {len(values)} rows; expected {len(y)} as endog; give one row per response."
            )


def _groups_of(exog_vc: Any, labels: Array) -> Groups:
    """The groups, coded once."""
    if isinstance(exog_vc, CodedSpec) and len(exog_vc.groups.codes) == len(labels):
        return exog_vc.groups
    return code_groups(labels)


def _vc_spec(exog_vc: Any, groups: Groups) -> VCSpec:
    if exog_vc is None:
        return VCSpec([], [], [])
    if isinstance(exog_vc, dict):
        import warnings

        warnings.warn(
            "Using deprecated variance components format: pass exog_vc=VCSpec(names, colnames, mats) "
            "rather than a dictionary.",
            FutureWarning,
            stacklevel=3,
        )
        return spec_from_dict(exog_vc, groups)
    return exog_vc


def _describe(
    endog: Any,
    exog: Any,
    X: Array,
    names: list[str],
    default: bool,
    spec: VCSpec,
    rows: Array | None,
) -> ModelData:
    pandas = isinstance(endog, (pd.Series, pd.DataFrame)) or isinstance(
        exog, (pd.Series, pd.DataFrame)
    )
    source = exog if isinstance(exog, (pd.Series, pd.DataFrame)) else endog
    index = source.index if pandas else None
    if index is not None and rows is not None:
        index = index[rows]
    name = getattr(endog, "name", None)
    if isinstance(endog, pd.DataFrame):
        name = endog.columns[0]
    return ModelData(
        endog=endog,
        exog=exog,
        ynames="y" if name is None else str(name),
        xnames=array_names(exog, X),
        exog_re_names=names,
        exog_re_names_full=list(names) if default else covariance_names(names),
        vcomp_names=list(spec.names),
        labelled=pandas,
        row_labels=index,
    )


def _renamed(described: ModelData, given: dict[str, Any]) -> ModelData:
    """Names of a model that is made again from its matrices."""
    exog_re, spec = given["exog_re"], given["exog_vc"]
    described.exog_re_names = re_names(exog_re, 0 if exog_re is None else np.shape(exog_re)[1])
    described.exog_re_names_full = covariance_names(described.exog_re_names)
    described.vcomp_names = [] if spec is None else list(spec.names)
    return described
