"""Numerical kernels: arrays in, arrays out, compiled by numba. Nothing here knows what a model is.

`crosstab`   one pass over the rows: sums of products by level and by pairs of levels
`blockchol`  the leading factor's block-diagonal part of the Cholesky factor, level by level
`scatter`    the Schur complement S = A22 - L21 L21' and its adjoint, block-dense storage
`smallchol`  many small dense Cholesky factorisations at once
`selinv`     inverse of a sparse matrix on the pattern of its Cholesky factor
"""
