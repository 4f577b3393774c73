"""What the user holds: an index of the questions a fit can answer.

Every line of the class body names a question and the function that answers it. The functions take
the frozen `Fit` and live on the floors below; nothing is computed before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sparselmm.delegation import later, quantity, question
from sparselmm.fit import Fit

if TYPE_CHECKING:
    from sparselmm import emmeans, estimates, ranef, rows, varcorr
    from sparselmm.diagnostics import collinearity, diagnose, explained, influence
    from sparselmm.inference import (
        anova,
        bootstrap,
        ddf,
        intervals,
        prediction,
        profile,
        ranova,
        sandwich,
        variance,
        wald,
    )
    from sparselmm.inference.bootstrap import Bootstrap
    from sparselmm.refits import refit, simulate
    from sparselmm.report import describe, render, tables
else:  # the same modules, each imported when its first question is asked
    emmeans, estimates, ranef, rows, varcorr = later(
        "sparselmm", "emmeans", "estimates", "ranef", "rows", "varcorr"
    )
    collinearity, diagnose, explained, influence = later(
        "sparselmm.diagnostics", "collinearity", "diagnose", "explained", "influence"
    )
    refit, simulate = later("sparselmm.refits", "refit", "simulate")
    [bootstrap] = later("sparselmm.inference", "bootstrap")
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

    # refits
    _refit = question(refit.refit)
    _bootstrap = question(bootstrap.bootstrap)
    simulate = question(simulate.simulate)
    refit_many = question(refit.refit_many)

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

    def refit(self, y: Any = None, reml: bool | None = None, weights: Any = None) -> Results:
        """The model fitted to another response, by the other criterion, or with other weights.

        All arguments are those of `sparselmm.refits.refit.refit`.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
        >>> round(fit.deviance, 3), round(fit.refit(reml=False).deviance, 3)
        (319.654, 327.327)
        """
        return Results(self._refit(y, reml, weights))

    def bootstrap(
        self,
        nsim: int = 1000,
        rng: Any = None,
        *,
        statistic: Callable[[Results], Any] | None = None,
        **settings: Any,
    ) -> Bootstrap:
        """Replicates of the estimates, from refits of simulated or resampled data.

        All arguments are those of `sparselmm.inference.bootstrap.bootstrap`; `statistic` takes the
        `Results` of a replicate.

        Examples
        --------
        >>> import sparselmm as slm
        >>> fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
        >>> fit.bootstrap(100, rng=1).conf_int(type="basic").shape
        (3, 2)
        """
        own = None if statistic is None else partial(_of_results, statistic)
        return self._bootstrap(nsim, rng, statistic=own, **settings)

    def __repr__(self) -> str:
        method = "REML" if self.fit.reml else "maximum likelihood"
        outcome = self.fit.optimum.outcome.value.partition(":")[0]
        return f"<Results of {self.fit.spec.formula!r} by {method}: {outcome}>"

    def __str__(self) -> str:
        return str(self._short_report())

    def _repr_html_(self) -> str:
        return self._short_report()._repr_html_()

    _short_report = question(render.short_report)


def _of_results(statistic: Callable[[Results], Any], fit: Fit) -> Any:
    """A user's statistic of a fit, which sees `Results`."""
    return statistic(Results(fit))
