"""`MixedLMResults`: what statsmodels' class of this name answers."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparselmm._types import Array
from sparselmm.compat.statsmodels import effects, hypotheses, prediction, storage, wald
from sparselmm.compat.statsmodels.bootstrap import bootstrap
from sparselmm.compat.statsmodels.curvature import hessian
from sparselmm.compat.statsmodels.engine import Point, at_params
from sparselmm.compat.statsmodels.estimate import Estimate
from sparselmm.compat.statsmodels.profile_re import profile_re
from sparselmm.compat.statsmodels.summary import summary

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM


class MixedLMResults:
    """A fitted `MixedLM`.

    Attributes
    ----------
    model : MixedLM
    params : ndarray or Series, shape (k_fe + k_re2 + k_vc,)
        Fixed effects, lower triangle of cov_re, variance components; the last two divided by `scale`.
    fe_params : ndarray or Series
    cov_re, cov_re_unscaled : ndarray or DataFrame, shape (k_re, k_re)
        Covariance of the random effects, and the same divided by `scale`.
    vcomp : ndarray, shape (k_vc,)
    scale : float
        Residual variance.
    llf, aic, bic : float
        aic and bic are NaN under REML.
    converged : bool
        Whether the fit passed the engine's certificate.
    hist : list of dict or None

    Notes
    -----
    Standard errors come from the observed information of all parameters together, as in statsmodels; for
    parameters of a singular term they are NaN, and those of the others hold them fixed.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.mixedlm("Reaction ~ Days", slm.load_dataset("sleepstudy"), groups="Subject").fit()
    >>> fit.bse.round(3).to_dict()
    {'Intercept': 9.747, 'Days': 0.804, 'Subject Var': 0.554}
    >>> fit.random_effects["308"].round(2).to_dict()
    {'Subject': 40.78}
    """

    t_test = hypotheses.t_test
    wald_test = hypotheses.wald_test
    f_test = hypotheses.f_test
    wald_test_terms = hypotheses.wald_test_terms
    t_test_pairwise = hypotheses.t_test_pairwise
    summary = summary
    profile_re = profile_re
    bootstrap = bootstrap
    cov_params = wald.cov_params
    conf_int = wald.conf_int
    predict = prediction.predict
    remove_data = storage.remove_data
    save = storage.save
    load = classmethod(storage.load)
    __getstate__ = storage.state
    use_t = False
    bootstrap_results: Array

    def __init__(
        self,
        model: MixedLM,
        estimate: Estimate,
        *,
        reml: bool,
        hist: list | None = None,
        active: Array | None = None,
    ) -> None:
        self.model = model
        self.reml = reml
        self.method = "REML" if reml else "ML"
        self.params_object = estimate.params
        self.scale, self.llf = np.float64(estimate.scale), np.float64(estimate.llf)
        self.converged, self.outcome = estimate.converged, estimate.outcome
        self.hist = hist
        self.use_sqrt, self.freepat = model.use_sqrt, model._freepat
        self.fe_pen, self.cov_pen = model.fe_pen, model.cov_pen
        self.k_fe, self.k_re = model.k_fe, model.k_re
        self.k_re2, self.k_vc = model.k_re2, model.k_vc
        self._active = active
        self._at: Point | None = estimate.point

    def _vector(self, values: Array, names: list[str]) -> Any:
        return pd.Series(values, index=names) if self.model.data.labelled else values

    def _square(self, values: Array, names: list[str]) -> Any:
        if not self.model.data.labelled:
            return values
        return pd.DataFrame(values, index=names, columns=names)

    def _rows(self, values: Array) -> Any:
        index = self.model.data.row_labels
        return values if index is None else pd.Series(values, index=index)

    @property
    def params(self) -> Any:
        """All parameters, packed."""
        packed = self.params_object.get_packed(use_sqrt=False, has_fe=True)
        return self._vector(packed, self.model.data.param_names)

    @property
    def fe_params(self) -> Any:
        """Fixed effects."""
        return self._vector(self.params_object.fe_params.copy(), self.model.data.xnames)

    @property
    def cov_re_unscaled(self) -> Any:
        """Covariance of the random effects divided by `scale`."""
        return self._square(self.params_object.cov_re.copy(), self.model.data.exog_re_names)

    @property
    def cov_re(self) -> Any:
        """Covariance of the random effects."""
        return self._square(self.scale * self.params_object.cov_re, self.model.data.exog_re_names)

    @property
    def vcomp(self) -> Array:
        """Variance components."""
        return self.scale * self.params_object.vcomp

    @cached_property
    def nobs(self) -> int:
        """Rows."""
        return self.model.nobs

    @cached_property
    def df_resid(self) -> np.int64:
        """Rows less the rank of exog; as in statsmodels no Python int, so that marginaleffects uses z."""
        return np.int64(self.model.nobs - self.model.engine.prepared.gram.p)

    @property
    def df_modelwc(self) -> int:
        """Number of parameters."""
        return self.params_object.k_tot

    @property
    def k_constant(self) -> int:
        """1 when the columns of exog span a constant."""
        return self.model.k_constant

    @cached_property
    def group_sizes(self) -> tuple[int, int, int, float]:
        """Number of groups, and smallest, largest and mean number of rows."""
        sizes = self.model._groups.sizes
        return len(sizes), int(sizes.min()), int(sizes.max()), float(sizes.mean())

    @cached_property
    def _information(self) -> tuple[Array, bool]:
        return hessian(self.model.engine, self.params_object, reml=self.reml, point=self._at)

    @cached_property
    def _covariance(self) -> Array:
        return wald.covariance(self)

    @property
    def normalized_cov_params(self) -> Any:
        """`cov_params` divided by `scale`."""
        return self._square(self._covariance / self.scale, self.model.data.param_names)

    @cached_property
    def hessv(self) -> tuple[Array, bool]:
        """`MixedLM.hessian` at the estimates."""
        return self._information

    @property
    def bse(self) -> Any:
        """Standard errors of `params`."""
        return self._vector(wald.standard_errors(self), self.model.data.param_names)

    @property
    def bse_fe(self) -> Any:
        """Standard errors of the fixed effects."""
        return self._vector(wald.standard_errors(self)[: self.k_fe], self.model.data.xnames)

    @property
    def bse_re(self) -> Any:
        """Root of `scale` times the standard errors of the covariance parameters: statsmodels' convention."""
        names = self.model.data.param_names[self.k_fe :]
        return self._vector(np.sqrt(self.scale) * wald.standard_errors(self)[self.k_fe :], names)

    @property
    def tvalues(self) -> Any:
        """Parameters divided by their standard errors."""
        return self._vector(wald.t_values(self), self.model.data.param_names)

    @property
    def pvalues(self) -> Any:
        """Two-sided, from the normal distribution; from t with `use_t`."""
        return self._vector(wald.p_values(self), self.model.data.param_names)

    @property
    def _n_parameters(self) -> float:
        if self.freepat is None:
            return len(np.asarray(self.params)) + 1
        return float(self.freepat.get_packed(use_sqrt=False, has_fe=True).sum()) + 1

    @property
    def aic(self) -> float:
        """Akaike's criterion; NaN under REML."""
        return np.nan if self.reml else -2.0 * (self.llf - self._n_parameters)

    @property
    def bic(self) -> float:
        """Bayesian criterion; NaN under REML."""
        return np.nan if self.reml else -2.0 * self.llf + np.log(self.nobs) * self._n_parameters

    @cached_property
    def _modes(self) -> list[Array]:
        """Conditional modes, shape (l_j, s_j) per factor."""
        engine = self.model.engine
        point = self._at
        if point is None:
            point = at_params(engine, self.params_object, reml=self.reml, profile_fe=False)
        return point.random_effects()

    @cached_property
    def random_effects(self) -> dict:
        """Conditional means of the random effects: a Series for every group, made when it is looked at."""
        return effects.means(self.model, self._modes)

    @cached_property
    def random_effects_cov(self) -> dict:
        """Conditional covariances of the random effects: a DataFrame for every group."""
        return effects.covariances(
            self.model, np.asarray(self.cov_re), self.vcomp, float(self.scale)
        )

    @cached_property
    def _fitted(self) -> Array:
        return effects.fitted(self.model, self.params_object.fe_params, self._modes)

    @property
    def fittedvalues(self) -> Any:
        """Fixed part and random effects, per row."""
        return self._rows(self._fitted)

    @property
    def resid(self) -> Any:
        """endog less `fittedvalues`."""
        return self._rows(self.model.endog - self._fitted)
