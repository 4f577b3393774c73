"""The package loads its parts on first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sparselmm

HEAVY = ("formulaic", "matplotlib", "numba", "numpy", "pandas", "scipy", "statsmodels")


def loaded_after(statement: str) -> set[str]:
    """Names of all modules a fresh interpreter holds after a statement."""
    code = f"{statement}; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    assert loaded_after("import sparselmm").isdisjoint(HEAVY)


def test_errors_load_nothing_heavy() -> None:
    assert loaded_after("from sparselmm import SingularFitWarning").isdisjoint(HEAVY)


def test_data_sets_do_not_need_the_engine() -> None:
    loaded = loaded_after("from sparselmm import load_dataset, simulate_design")
    assert loaded.isdisjoint({"formulaic", "numba", "scipy.stats"})


def test_every_public_name_has_a_home() -> None:
    assert set(sparselmm.__all__) == set(sparselmm._HOME)
    assert sparselmm.__all__ == sorted(sparselmm.__all__)


def test_dir_shows_nothing_but_public_names() -> None:
    import sparselmm.api

    assert dir(sparselmm) == sorted([*sparselmm.__all__, "__version__"])
    assert all(getattr(sparselmm, name) is not None for name in dir(sparselmm))
    assert sparselmm.api.lmm is sparselmm.lmm


def test_errors_are_all_public() -> None:
    from sparselmm import errors

    assert {n for n, home in sparselmm._HOME.items() if home == errors.__name__} == set(
        errors.__all__
    )


def test_a_loaded_name_is_kept() -> None:
    assert sparselmm.load_dataset is vars(sparselmm)["load_dataset"]


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'sparselmm' has no attribute 'lmer'"):
        sparselmm.lmer  # noqa: B018
