"""Pictures of a fit, drawn with matplotlib, which is loaded by the first picture.

Every function takes the results of a fit (or the record that is drawn), draws into ``ax`` where it is given, changes
no global setting, and returns its axes: one, or an array of one per panel.
"""

from __future__ import annotations

from sparselmm.plots.bootstrap import bootstrap_densities
from sparselmm.plots.effects import caterpillar, coefficients, shrinkage
from sparselmm.plots.profiles import profile_densities, profile_zeta
from sparselmm.plots.residuals import qq_random, qq_residuals, residuals_fitted

__all__ = [
    "bootstrap_densities",
    "caterpillar",
    "coefficients",
    "profile_densities",
    "profile_zeta",
    "qq_random",
    "qq_residuals",
    "residuals_fitted",
    "shrinkage",
]
