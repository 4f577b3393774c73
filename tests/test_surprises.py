"""What a new user would trip over: alignment, identification, arguments beside each other."""

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm

FORMULA = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return slm.load_dataset("sleepstudy")


def test_a_series_of_weights_is_aligned_with_the_data(sleep):
    weights = pd.Series(np.linspace(1.0, 2.0, 180), index=sleep.index)
    shuffled = weights.sample(frac=1.0, random_state=1)
    by_label = slm.lmm(FORMULA, sleep, weights=shuffled)
    assert by_label.deviance == slm.lmm(FORMULA, sleep.assign(w=weights), weights="w").deviance


def test_a_series_with_other_labels_is_refused(sleep):
    weights = pd.Series(np.ones(180), index=np.arange(180) + 500)
    with pytest.raises(slm.DataError, match="other row labels than the data"):
        slm.lmm(FORMULA, sleep, weights=weights)


def test_dependent_columns_left_of_a_bar_are_said(sleep):
    with pytest.warns(slm.IdentifiabilityWarning, match="depend on each other"):
        slm.lmm("Reaction ~ Days + (Days + twice | Subject)", sleep.assign(twice=2 * sleep["Days"]))


def test_the_same_groups_under_two_names_are_said(sleep):
    twice = sleep.assign(again=sleep["Subject"].astype(str) + "'")
    with pytest.warns(
        slm.IdentifiabilityWarning, match="'Subject' and 'again' have the same"
    ) as seen:
        slm.lmm("Reaction ~ Days + (1 | Subject) + (Days | again)", twice)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", slm.IdentifiabilityWarning)
        split = slm.lmm("Reaction ~ Days + (1 | Subject) + (0 + Days | again)", twice)
    whole = slm.lmm("Reaction ~ Days + (Days || Subject)", sleep)
    assert split.deviance == pytest.approx(whole.deviance, rel=1e-10)


def test_warnings_point_at_the_line_of_the_caller(sleep):
    dependent = sleep.assign(twice=2 * sleep["Days"])
    formula = "Reaction ~ Days + (0 + Days + twice | Subject)"
    calls = (
        lambda: slm.lmm(formula, dependent),
        lambda: slm.LinearMixedModel(formula, dependent),
        lambda: slm.mixedlm(
            "Reaction ~ Days", dependent, groups="Subject", re_formula="0 + Days + twice"
        ).fit(),
    )
    for call in calls:
        with pytest.warns(slm.IdentifiabilityWarning) as seen:
            call()
        assert {one.filename for one in seen} == {__file__}


def test_a_column_of_zeros_left_of_a_bar_is_refused(sleep):
    with pytest.raises(slm.DataError, match="'zero' of .* is zero in all rows"):
        slm.lmm("Reaction ~ Days + (0 + zero | Subject)", sleep.assign(zero=0.0))


def test_columns_of_large_mean_are_not_dependent(sleep):
    with warnings.catch_warnings():
        warnings.simplefilter("error", slm.IdentifiabilityWarning)
        slm.lmm("Reaction ~ far + (far | Subject)", sleep.assign(far=sleep["Days"] + 1e6))


def test_a_covariance_is_no_variance(sleep):
    one = slm.lmm("Reaction ~ Days + (Days || Subject)", sleep)
    assert "variances" not in str(slm.compare(one, slm.lmm(FORMULA, sleep)))


@pytest.mark.parametrize("random", [False, None])
def test_random_is_not_a_switch(sleep, random):
    fit = slm.lmm(FORMULA, sleep)
    with pytest.raises(slm.InferenceError, match="expected 'all', 'none'"):
        fit.predict(sleep, random=random)


def test_matrices_beside_formulas_are_refused(sleep):
    with pytest.raises(ValueError, match="not both"):
        slm.mixedlm(
            "Reaction ~ Days", sleep, groups="Subject", re_formula="1", exog_re=sleep[["Days"]]
        )


def test_alpha_is_one_minus_level(sleep):
    fit = slm.lmm(FORMULA, sleep)
    with pytest.raises(slm.InferenceError, match=r"level=0\.95 is alpha=0\.05"):
        fit.conf_int(alpha=0.05)
