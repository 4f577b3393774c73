"""What the user holds: an index of the questions a fit can answer.

Every line of the class body names a question and the function that answers it. The functions take
the frozen `Fit` and live on the floors below; nothing is computed before it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparselmm import estimates
from sparselmm.delegation import quantity, question
from sparselmm.fit import Fit


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """A fitted linear mixed model.

    Attributes
    ----------
    fit : Fit
        The frozen record everything is computed from.
    """

    fit: Fit

    # fixed effects
    params = quantity(estimates.params)
    bse = quantity(estimates.bse)
    cov_params = question(estimates.cov_params)

    # variance components
    sigma = quantity(estimates.sigma)
    scale = quantity(estimates.scale)
    theta = quantity(estimates.theta)

    # criteria
    llf = quantity(estimates.llf)
    deviance = quantity(estimates.deviance)
    aic = quantity(estimates.aic)
    bic = quantity(estimates.bic)
    nobs = quantity(estimates.nobs)
    df_model = quantity(estimates.df_model)
