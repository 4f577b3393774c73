"""Bytes in words."""

import pytest

from sparselmm.machine import size_text


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (100.0, "100 B"),
        (1000, "1,000 B"),
        (1023.6, "1 KiB"),
        (1e6, "977 KiB"),
        (34.3 * 2**20, "34.3 MiB"),
        (1010 * 2.0**20, "1,010 MiB"),
        (3.2 * 2**30, "3.2 GiB"),
        (999.7 * 2**30, "1,000 GiB"),
        (5e4 * 2**30, "50,000 GiB"),
        (float("inf"), "inf GiB"),
    ],
)
def test_bytes_in_words(nbytes, text):
    assert size_text(nbytes) == text
