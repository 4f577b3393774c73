"""Profile likelihood of fixed effects, standard deviations, correlations, sigma, and functions of them.

The ML deviance is minimised with one parameter held, for a sequence of values of it. Everything runs on the
cross-products; one factorisation gives value, exact gradient and a structured Hessian of the deviance in
(theta, log sigma²) with beta profiled out (`surface`). A parameter is held exactly (`hold`), walked outwards in equal
steps of zeta = sign root(d - d_min) (`walk`), and the interval ends are where |zeta| equals a normal quantile
(Bates et al. 2015, section 5.1; Venzon & Moolgavkar 1988, Applied Statistics 37, 87-94).
"""

from sparselmm.inference.profile.api import profile, profile_intervals
from sparselmm.inference.profile.record import Curve, Profile

__all__ = ["Curve", "Profile", "profile", "profile_intervals"]
