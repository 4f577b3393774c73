"""What the tests of the core share."""

from __future__ import annotations

import pytest

from sparselmm.threads import limited_threads


@pytest.fixture(autouse=True)
def one_thread():
    """As for every small fit: waking BLAS threads would cost more than the algebra."""
    with limited_threads(1):
        yield
