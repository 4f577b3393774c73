"""Linear mixed-effects models for large nested and crossed designs.

Every public name is loaded on first use, so ``import sparselmm`` costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparselmm.api import LinearMixedModel, lmm
    from sparselmm.compat.statsmodels import MixedLM, mixedlm
    from sparselmm.datasets import load_dataset, simulate_design
    from sparselmm.errors import (
        ConvergenceError,
        ConvergenceWarning,
        DataError,
        FormulaError,
        IdentifiabilityWarning,
        InferenceError,
        MemoryRefusedError,
        PathError,
        RankWarning,
        SingularFitWarning,
        SparseLMMError,
        SparseLMMWarning,
    )
    from sparselmm.inference.lrt import compare
    from sparselmm.optimum import Outcome
    from sparselmm.options import Options
    from sparselmm.results import Results

# OpenBLAS reads it when scipy.linalg loads it: threads that wait spin for 2^16 cycles before they sleep, not for 2^26,
# tens of milliseconds in which they hold cores that kernels and other processes could use.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")

__version__ = "0.1.0.dev0"

__all__ = [
    "ConvergenceError",
    "ConvergenceWarning",
    "DataError",
    "FormulaError",
    "IdentifiabilityWarning",
    "InferenceError",
    "LinearMixedModel",
    "MemoryRefusedError",
    "MixedLM",
    "Options",
    "Outcome",
    "PathError",
    "RankWarning",
    "Results",
    "SingularFitWarning",
    "SparseLMMError",
    "SparseLMMWarning",
    "compare",
    "lmm",
    "load_dataset",
    "mixedlm",
    "simulate_design",
]

_HOME = {
    "ConvergenceError": "sparselmm.errors",
    "ConvergenceWarning": "sparselmm.errors",
    "DataError": "sparselmm.errors",
    "FormulaError": "sparselmm.errors",
    "IdentifiabilityWarning": "sparselmm.errors",
    "InferenceError": "sparselmm.errors",
    "LinearMixedModel": "sparselmm.api",
    "MemoryRefusedError": "sparselmm.errors",
    "MixedLM": "sparselmm.compat.statsmodels",
    "Options": "sparselmm.options",
    "Outcome": "sparselmm.optimum",
    "PathError": "sparselmm.errors",
    "RankWarning": "sparselmm.errors",
    "Results": "sparselmm.results",
    "SingularFitWarning": "sparselmm.errors",
    "SparseLMMError": "sparselmm.errors",
    "SparseLMMWarning": "sparselmm.errors",
    "compare": "sparselmm.inference.lrt",
    "lmm": "sparselmm.api",
    "load_dataset": "sparselmm.datasets",
    "mixedlm": "sparselmm.compat.statsmodels",
    "simulate_design": "sparselmm.datasets",
}


def __getattr__(name: str) -> Any:
    """Import the module that holds a public name, once, and keep the name here."""
    if name not in _HOME:
        raise AttributeError(f"module 'sparselmm' has no attribute '{name}'")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not; helpers of this module and its parts stay out."""
    return sorted([*__all__, "__version__"])
