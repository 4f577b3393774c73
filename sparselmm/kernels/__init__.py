"""Numerical kernels: arrays in, arrays out, compiled by numba. Nothing here knows what a model is.

`crosstab`       one pass over the rows: sums of products by level and by pairs of levels
`blockchol`      the leading factor's block-diagonal part of the Cholesky factor, level by level
`scatter`        the Schur complement S = A22 - L21 L21' and its adjoint, block-dense storage
`bitsets`        which columns of S to eliminate first, and what they fill
`head`           those columns of a dense S: their part of factor, solves and inverse
`components`     connected components of a bipartite pattern
`smallchol`      many small dense Cholesky factorisations at once
`sparse_schur`   S on a fixed sparse pattern
`supernodes`     elimination tree, column counts and supernodes of a sparse factor
`selinv`         inverse of a sparse matrix on the pattern of its Cholesky factor
`forms`          entries and products of S^-1 that single rows of the data ask for
`border`         whole evaluations of small designs, for one response after the other
"""
