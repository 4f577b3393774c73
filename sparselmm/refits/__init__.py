"""Many responses of one design: only Z'y, X'y and y'y change.

simulate    responses drawn from a fit
responses   their cross-products
refit       a fit of one other response, or estimates of many
batch       which engine takes them, and the general optimiser for those that it does not vouch for
small       the profiled problem of small designs, compiled: value, score and information of one response
lockstep    the descents of many responses side by side
stacks      small linear algebra on stacks of matrices
"""
