import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def frame():
    rng = np.random.default_rng(1)
    n = 60
    return pd.DataFrame(
        {
            "y": rng.normal(size=n),
            "x": rng.uniform(1, 5, size=n),
            "z": rng.normal(size=n),
            "my x": rng.normal(size=n),
            "f": rng.choice(list("abc"), n),
            "flag": rng.random(n) < 0.5,
            "i": rng.integers(0, 3, n),
            "w": rng.uniform(1, 2, n),
            "t": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(n) % 5, unit="D"),
            "g": rng.permutation(np.arange(n) % 6),
            "h": rng.permutation(np.array(list("pqrs"))[np.arange(n) % 4]),
            "const": 3.0,
        },
        index=[f"row{i}" for i in range(n)],
    )
