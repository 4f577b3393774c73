"""The coverage benchmark runs, and its theory is that of the fits."""

from __future__ import annotations

import numpy as np
import pytest

import sparselmm as slm
from benchmarks import coverage


def sums_of_squares(y):
    Y = y.reshape(coverage.N_A, coverage.N_B)
    rows, columns = Y.mean(axis=1), Y.mean(axis=0)
    rest = Y - rows[:, None] - columns + Y.mean()
    return (
        coverage.N_B * ((rows - Y.mean()) ** 2).sum(),
        coverage.N_A * ((columns - Y.mean()) ** 2).sum(),
        (rest**2).sum(),
    )


def test_reml_of_the_balanced_design_is_its_analysis_of_variance():
    Y = np.column_stack([coverage.response(i) for i in range(300)])
    SS = np.array([sums_of_squares(y) for y in Y.T]).T
    data = coverage.frame()
    fits = slm.lmm("y ~ 1 + (1 | a) + (1 | b)", data).refit_many(Y)
    expected = coverage.estimates(*SS)
    assert (expected[:, 0] == 0.0).any()
    names = ["sd_Intercept|a", "sd_Intercept|b", "sigma"]
    np.testing.assert_allclose(fits.varpar[names], expected, atol=2e-5)


def test_tables(tmp_path, capsys):
    page = tmp_path / "coverage.md"
    page.write_text(f"Words.\n\n{coverage.MARKER}\n\nold")
    small = "--datasets 2 --compared 0 --replicates 39 --workers 1"
    coverage.main([*small.split(), "--page", str(page)])
    text = page.read_text()
    assert text.startswith("Words.")
    assert "old" not in text
    assert "| bootstrap, shortest |" in text
    assert text.split(coverage.MARKER)[1].strip() in capsys.readouterr().out


def test_comparison_counts_what_the_other_gives():
    own = np.array([[[0.0, 1.0]] * 4, [[-0.5, 1.5]] * 4])
    peer = own.copy()
    peer[1, 0] = np.nan
    lines = coverage.compare(own, peer)
    assert lines[4] == "| lme4 gives an interval | 1 | 2 | 2 | 2 |"
    assert coverage.covered(own)[0].tolist() == [True, True, True, True]


@pytest.mark.parametrize("kind", ["percentile", "normal"])
def test_theory_is_near_the_nominal_level(kind):
    expected = coverage.theory(300, 99)[kind]
    assert (expected > 0.8).all()
    assert (expected <= 1.0).all()
