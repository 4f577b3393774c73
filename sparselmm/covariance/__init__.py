"""Covariance templates: how the free parameters theta fill the relative covariance factor T.

A random-effects term with s coefficients has covariance sigma² T T' per level. Every template is linear,

    T = sum_i theta_i B_i,

where every B_i has a single one (a scalar template's has them on the whole diagonal), so a template *is* the
places of theta in T. `factor_basis` has the B_i in full; the symmetric matrices S_i of `symmetric_basis` span the
tangent space T^-1 (dSigma) T^-T and give the coordinates in which the score and the average information are
computed.
"""

from sparselmm.covariance.templates import Template, template

__all__ = ["Template", "template"]
