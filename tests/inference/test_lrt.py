"""Comparison of models: the statistic, what is nested in what, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

import sparselmm as slm
from sparselmm.errors import InferenceError
from sparselmm.inference.lrt import not_nested, same_partition

pytestmark = pytest.mark.filterwarnings("ignore::sparselmm.SingularFitWarning")


def fits(data, *formulas, **options):
    return [slm.lmm(formula, data, **options) for formula in formulas]


def test_fixed_effects_by_ml(sleepstudy):
    formulas = ("Reaction ~ Days + (Days | Subject)", "Reaction ~ 1 + (Days | Subject)")
    large, small = fits(sleepstudy, *formulas)
    found = slm.compare(large, small)
    by_ml = [fit.deviance for fit in fits(sleepstudy, *formulas, reml=False)]
    assert list(found.table.index) == ["m2", "m1"]
    np.testing.assert_allclose(found.table["deviance"], by_ml[::-1], rtol=1e-10)
    chisq = by_ml[1] - by_ml[0]
    last = found.table.iloc[-1]
    assert last["chisq"] == pytest.approx(chisq, rel=1e-6)
    assert last["p"] == pytest.approx(chi2.sf(chisq, 1), rel=1e-5)
    assert found.criterion == "ML"
    assert "refitted by ML" in found.notes[0]
    assert "m1: Reaction ~ Days" in str(found)


def test_random_effects_keep_reml(sleepstudy):
    formulas = ("Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)")
    small, large = fits(sleepstudy, *formulas)
    found = slm.compare(small, large)
    assert found.criterion == "REML"
    assert found.table["chisq"].iloc[1] == pytest.approx(small.deviance - large.deviance)
    assert found.table["aic"].to_list() == pytest.approx([small.aic, large.aic])
    assert found.table["bic"].to_list() == pytest.approx([small.bic, large.bic])
    assert any("ranova" in note for note in found.notes)


def test_mixed_criteria_are_refitted(sleepstudy):
    formula = "Reaction ~ Days + (1 | Subject)"
    models = (
        slm.lmm(formula, sleepstudy),
        slm.lmm("Reaction ~ 1 + (1 | Subject)", sleepstudy, reml=False),
    )
    assert slm.compare(*models).criterion == "ML"
    with pytest.raises(InferenceError, match="expected ML fits"):
        slm.compare(*models, refit=False)


@pytest.mark.parametrize(
    ("small", "large", "nested"),
    [
        ("1 + (1 | Subject)", "Days + (1 | Subject)", True),
        ("Days + (1 | Subject)", "I(Days * 2 + 1) + (1 | Subject)", True),
        ("np.exp(Days) + (1 | Subject)", "Days + (1 | Subject)", False),
        ("Days + (1 | Subject)", "Days + (Days | Subject)", True),
        ("Days + (Days || Subject)", "Days + (Days | Subject)", True),
        ("Days + (Days | Subject)", "Days + (Days || Subject)", False),
        ("Days + (0 + Days | Subject)", "Days + (Days || Subject)", True),
        ("Days + (1 | block)", "Days + (Days | Subject)", False),
        ("Days + (1 | Subject)", "Days + (1 | renamed)", True),
    ],
)
def test_nesting(sleepstudy, small, large, nested):
    data = sleepstudy.assign(
        block=np.arange(180) % 9, renamed="s" + sleepstudy["Subject"].astype(str)
    )
    data["renamed"] = data["renamed"].str[::-1]
    first, second = fits(data, f"Reaction ~ {small}", f"Reaction ~ {large}")
    assert (not_nested(first.fit, second.fit) == "") is nested


def test_models_that_are_not_nested_get_no_test(sleepstudy):
    formulas = ("Reaction ~ Days + (1 | Subject)", "Reaction ~ np.exp(Days) + (Days | Subject)")
    found = slm.compare(*fits(sleepstudy, *formulas))
    assert np.isnan(found.table["p"]).all()
    assert "m1 is not nested in m2" in found.notes[-1]


def test_same_partition():
    a, b = np.array([0, 0, 1, 2]), np.array([2, 2, 0, 1])
    assert same_partition(a, 3, b, 3)
    assert not same_partition(a, 3, np.array([2, 0, 0, 1]), 3)


def test_refusals(sleepstudy):
    formula = "Reaction ~ Days + (1 | Subject)"
    fit = slm.lmm(formula, sleepstudy)
    with pytest.raises(InferenceError, match="expected two or more"):
        slm.compare(fit)
    with pytest.raises(InferenceError, match="Found int; expected results of lmm"):
        slm.compare(fit, 3)
    with pytest.raises(InferenceError, match="180 rows .* and 170 rows"):
        slm.compare(fit, slm.lmm(formula, sleepstudy.iloc[10:]))
    with pytest.raises(InferenceError, match="different rows or responses"):
        slm.compare(fit, slm.lmm(formula, sleepstudy.assign(Reaction=sleepstudy["Reaction"] * 2)))
    with pytest.raises(InferenceError, match="different weights"):
        slm.compare(fit, slm.lmm(formula, sleepstudy, weights=np.arange(1.0, 181.0)))


def test_fits_that_did_not_converge_are_said_once(sleepstudy):
    data, options = sleepstudy.iloc[3:], slm.Options(max_evaluations=1)
    small = slm.lmm("Reaction ~ Days + (1 | Subject)", data, reml=False)
    with pytest.warns(slm.ConvergenceWarning):
        large = slm.lmm("Reaction ~ Days + (Days | Subject)", data, reml=False, options=options)
    with pytest.warns(slm.ConvergenceWarning) as seen:
        found = slm.compare(small, large)
    assert len(seen) == 1
    message = str(seen[0].message)
    assert message.startswith("m2 is not converged: ")
    assert "Expected converged fits: likelihood ratios of others mean little." in message
    assert message in found.notes
