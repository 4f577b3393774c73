"""What the user holds: an index of the questions a fit can answer.

Every line of the class body names a question and the function that answers it. The functions take
the frozen `Fit` and live on the floors below; nothing is computed before it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparselmm.delegation import later, quantity, question
from sparselmm.fit import Fit

if TYPE_CHECKING:
    from sparselmm import (
        collinearity,
        diagnose,
        emmeans,
        estimates,
        explained,
        influence,
        ranef,
        rows,
        varcorr,
    )
    from sparselmm.inference import (
        anova,
        ddf,
        intervals,
        prediction,
        profile,
        ranova,
        sandwich,
        variance,
        wald,
    )
    from sparselmm.report import describe, render, tables
else:  # the same modules, each imported when its first question is asked
    emmeans, estimates, influence, ranef, rows, varcorr = later(
        "sparselmm", "emmeans", "estimates", "influence", "ranef", "rows", "varcorr"
    )
    collinearity, diagnose, explained = later("sparselmm", "collinearity", "diagnose", "explained")
    anova, ddf, intervals, prediction, profile = later(
        "sparselmm.inference", "anova", "ddf", "intervals", "prediction", "profile"
    )
    ranova, sandwich, variance, wald = later(
        "sparselmm.inference", "ranova", "sandwich", "variance", "wald"
    )
    describe, render, tables = later("sparselmm.report", "describe", "render", "tables")


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """A fitted linear mixed model.

    Attributes
    ----------
    fit : Fit
        The frozen record everything is computed from.

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> fit
    <Results of 'Reaction ~ Days + (Days | Subject)' by REML: converged>
    """

    fit: Fit

    # fixed effects
    params = quantity(estimates.params)
    bse = quantity(estimates.bse)
    tvalues = quantity(wald.tvalues)
    pvalues = quantity(wald.pvalues)
    cov_params = question(estimates.cov_params)
    conf_int = question(intervals.conf_int)
    profile = question(profile.profile)
    t_test = question(wald.t_test)
    wald_test = question(wald.wald_test)
    ddf = question(ddf.degrees_of_freedom)
    anova = question(anova.anova)
    ranova = question(ranova.ranova)
    cov_robust = question(sandwich.cov_robust)

    # variance components
    varcorr = quantity(varcorr.varcorr)
    varcorr_se = question(variance.varcorr_se)
    sigma = quantity(estimates.sigma)
    scale = quantity(estimates.scale)
    theta = quantity(estimates.theta)

    # random effects
    coef = question(ranef.coef)
    ranef = question(ranef.ranef)

    # criteria
    llf = quantity(estimates.llf)
    deviance = quantity(estimates.deviance)
    aic = quantity(estimates.aic)
    bic = quantity(estimates.bic)
    nobs = quantity(estimates.nobs)
    df_model = quantity(estimates.df_model)
    df_resid = quantity(estimates.df_resid)

    # rows
    fittedvalues = quantity(rows.fittedvalues)
    resid = quantity(rows.resid)
    predict = question(prediction.predict)
    residuals = question(influence.residuals)
    hatvalues = question(influence.hatvalues)
    cooks_distance = question(influence.cooks_distance)
    dfbeta = question(influence.dfbeta)
    dfbetas = question(influence.dfbetas)
    emmeans = question(emmeans.emmeans)

    # shares of variance and what is wrong
    icc = question(explained.icc)
    r2 = question(explained.r2)
    re_pca = question(explained.re_pca)
    vif = question(collinearity.vif)
    diagnose = question(diagnose.diagnose)

    # what happened
    converged = quantity(estimates.converged)
    outcome = quantity(estimates.outcome)
    optimum = quantity(estimates.optimum)
    is_singular = question(estimates.is_singular)
    describe = question(describe.describe)

    # text and tables
    summary = question(render.summary)
    tidy = question(tables.tidy)
    glance = question(tables.glance)
    augment = question(tables.augment)

    def __repr__(self) -> str:
        method = "REML" if self.fit.reml else "maximum likelihood"
        outcome = self.fit.optimum.outcome.value.partition(":")[0]
        return f"<Results of {self.fit.spec.formula!r} by {method}: {outcome}>"

    def __str__(self) -> str:
        return str(self._short_report())

    def _repr_html_(self) -> str:
        return self._short_report()._repr_html_()

    _short_report = question(render.short_report)
