"""statsmodels' `MixedLM` on this engine: change the import, keep the code.

    from sparselmm import MixedLM, mixedlm            # or
    import sparselmm.compat.statsmodels as smf        # smf.mixedlm(...), smf.MixedLM(...)

`model` holds the class and `results` what it gives; `mapping` turns groups, re_formula and vc_formula into the
engine's random-effects terms; `engine` and `curvature` answer for the likelihood at any parameters.
"""

from sparselmm.compat.statsmodels.front import mixedlm
from sparselmm.compat.statsmodels.model import MixedLM
from sparselmm.compat.statsmodels.params import MixedLMParams, VCSpec
from sparselmm.compat.statsmodels.results import MixedLMResults

__all__ = ["MixedLM", "MixedLMParams", "MixedLMResults", "VCSpec", "mixedlm"]
