"""What all tests share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

from sparselmm.datasets import load_dataset

# No deadline: the first example of a property pays for compilation.
settings.register_profile(
    "sparselmm",
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sparselmm")

# A script for a suite of its own, not a test module.
collect_ignore_glob = ["compat/run_*.py"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.fixture(scope="session")
def sleepstudy() -> pd.DataFrame:
    return load_dataset("sleepstudy")
