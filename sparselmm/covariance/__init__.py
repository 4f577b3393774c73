"""Covariance templates: how the free parameters theta fill the relative covariance factor T.

A random-effects term with s coefficients has covariance sigma² T T' per level. Every template is linear,

    T = sum_i theta_i B_i,

so a template *is* its stack of matrices B_i (`factor_basis`); the symmetric matrices S_i of
`symmetric_basis` span the tangent space T^-1 (dSigma) T^-T and give the coordinates in which the score and
the average information are computed.
"""

from sparselmm.covariance.templates import Template, template

__all__ = ["Template", "template"]
