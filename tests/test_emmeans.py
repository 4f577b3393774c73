"""Marginal means and contrasts: definition, other packages, adjustments, messages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.inference.multiplicity import adjusted_p, adjusted_quantile


@pytest.fixture(scope="module")
def cake():
    return slm.load_dataset("cake")


@pytest.fixture(scope="module")
def fit(cake):
    return slm.lmm("angle ~ recipe * temperature + (1 | recipe:replicate)", cake)


def test_means_of_a_balanced_design_are_means_of_cells(fit, cake):
    means = fit.emmeans("recipe", by="temperature").table.set_index(["recipe", "temperature"])
    cells = cake.groupby(["recipe", "temperature"], observed=True)["angle"].mean()
    np.testing.assert_allclose(means["estimate"], cells.loc[means.index], rtol=1e-9)
    one = fit.emmeans("recipe").table.set_index("recipe")["estimate"]
    np.testing.assert_allclose(
        one, cake.groupby("recipe", observed=True)["angle"].mean(), rtol=1e-9
    )


def test_unbalanced_means_weigh_cells_evenly(cake):
    some = cake.drop(index=cake.index[::7])
    fit = slm.lmm("angle ~ recipe * temp + (1 | recipe:replicate)", some)
    got = fit.emmeans("recipe")
    beta, t = fit.params, some["temp"].mean()
    expected = [
        beta["Intercept"] + beta["temp"] * t,
        beta["Intercept"] + beta["recipe[T.B]"] + (beta["temp"] + beta["recipe[T.B]:temp"]) * t,
        beta["Intercept"] + beta["recipe[T.C]"] + (beta["temp"] + beta["recipe[T.C]:temp"]) * t,
    ]
    np.testing.assert_allclose(got.table["estimate"], expected, rtol=1e-12)
    assert got.at == {"temp": t}
    assert f"At temp = {t:.4g}" in str(got)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", None, 30])
def test_contrasts_are_t_tests(fit, ddf):
    means = fit.emmeans("temperature", by="recipe", ddf=ddf)
    got = means.contrasts("control", adjust="none").table
    b = got[(got["recipe"] == "B") & (got["contrast"] == "195 - 175")].iloc[0]
    expected = fit.t_test(
        "temperature[T.195] + recipe[T.B]:temperature[T.195]", ddf=ddf
    ).table.iloc[0]
    for name in ("estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high"):
        np.testing.assert_allclose(b[name], expected[name], rtol=1e-8)


def test_marginaleffects_gives_the_same_means(cake):
    marginaleffects = pytest.importorskip("marginaleffects")
    pytest.importorskip("statsmodels")
    data = cake.assign(g=cake["recipe"].astype(str) + cake["replicate"].astype(str))
    model = slm.mixedlm("angle ~ recipe * temperature", data, groups=data["g"]).fit()
    theirs = marginaleffects.avg_predictions(model, by="recipe", newdata="balanced")
    fit = slm.lmm("angle ~ recipe * temperature + (1 | g)", data)
    ours = fit.emmeans("recipe", ddf=None).table
    for name in ("estimate", "std_error"):
        np.testing.assert_allclose(ours[name], np.asarray(theirs[name], float), rtol=1e-4)


def test_tukey(fit):
    from scipy.stats import studentized_range

    table = fit.emmeans("recipe").contrasts().table
    q = np.abs(table["statistic"]) * np.sqrt(2)
    np.testing.assert_allclose(table["p_value"], studentized_range.sf(q, 3, 42.0), rtol=1e-6)
    half = (table["conf_high"] - table["conf_low"]) / 2
    width = studentized_range.ppf(0.95, 3, 42.0) / np.sqrt(2)
    np.testing.assert_allclose(half, width * table["std_error"], rtol=1e-5)
    # R: qtukey(0.95, 3, 42) = 3.435823, ptukey(3, 3, Inf, lower.tail = FALSE) = 0.08554257
    np.testing.assert_allclose(width * np.sqrt(2), 3.435823, rtol=2e-4)
    assert adjusted_p(np.array([3 / np.sqrt(2)]), np.array([np.inf]), "tukey", 3)[0] == (
        pytest.approx(0.0855, rel=2e-2)
    )


@pytest.mark.parametrize("adjust", ["holm", "bonferroni", "sidak", "fdr"])
def test_adjustments_come_from_statsmodels(fit, adjust):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    means = fit.emmeans("temperature")
    raw = means.contrasts(adjust="none").table
    got = means.contrasts(adjust=adjust).table
    name = {"fdr": "fdr_bh"}.get(adjust, adjust)
    np.testing.assert_allclose(
        got["p_value"], multitest.multipletests(raw["p_value"], method=name)[1]
    )
    assert (got["conf_high"] >= raw["conf_high"]).all()
    assert len(got) == 15


def test_adjusted_intervals_and_p_values_agree():
    df = np.array([20.0])
    for adjust in ("bonferroni", "sidak", "tukey"):
        width = adjusted_quantile(0.95, df, adjust, 1 if adjust != "tukey" else 3, 3)
        p = adjusted_p(width, df, adjust, 3)
        np.testing.assert_allclose(p, 0.05, rtol=1e-4)


def test_weights_by_name_and_deviations(fit):
    means = fit.emmeans("recipe")
    own = means.contrasts({"A - rest": [1, -0.5, -0.5]}).table
    estimate = means.table["estimate"]
    np.testing.assert_allclose(own["estimate"], estimate[0] - estimate[1:].mean(), rtol=1e-10)
    deviation = means.contrasts("deviation").table
    np.testing.assert_allclose(deviation["estimate"], estimate - estimate.mean(), atol=1e-10)


def test_numeric_variables_at_values(cake):
    fit = slm.lmm("angle ~ recipe * np.log(temp) + (1 | recipe:replicate)", cake)
    got = fit.emmeans("recipe", by="temp", at={"temp": [180, 200]}).table
    assert len(got) == 6
    grid = got[["recipe", "temp"]]
    np.testing.assert_allclose(got["estimate"], fit.predict(grid, random="none"), rtol=1e-12)
    averaged = fit.emmeans("recipe", at={"temp": [180, 200]}).table["estimate"]
    np.testing.assert_allclose(
        averaged, got.groupby("recipe", observed=True)["estimate"].mean(), rtol=1e-12
    )


def test_what_cannot_be_estimated_is_missing():
    data = slm.load_dataset("cake")
    holes = data[~((data["recipe"] == "C") & (data["temperature"] == "225"))]
    with pytest.warns(slm.RankWarning):
        fit = slm.lmm("angle ~ recipe * temperature + (1 | recipe:replicate)", holes)
    means = fit.emmeans("recipe", by="temperature")
    table = means.table
    hole = (table["recipe"] == "C") & (table["temperature"] == "225")
    assert table.loc[hole, "estimate"].isna().all()
    assert table.loc[~hole, "estimate"].notna().all()
    contrasts = means.contrasts().table
    assert contrasts["estimate"].isna().sum() == 2
    assert fit.emmeans("recipe").table["estimate"].isna().tolist() == [False, False, True]


def test_prints(fit):
    means = fit.emmeans("recipe")
    assert str(means).startswith("Estimated marginal means\n")
    assert "ddf: satterthwaite" in str(means)
    assert "adjusted: tukey" in str(means.contrasts())
    assert means._repr_html_().startswith("<table")
    assert means.contrasts()._repr_html_().startswith("<table")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f: f.emmeans("Recipe"), r"Found 'Recipe'; expected variables of the fixed part"),
        (lambda f: f.emmeans("recipe", level=2), "expected a number in"),
        (lambda f: f.emmeans("recipe").contrasts("all"), "expected one of 'pairwise'"),
        (lambda f: f.emmeans("recipe").contrasts(adjust="scheffe"), "Found adjust='scheffe'"),
        (
            lambda f: f.emmeans("recipe").contrasts("control", adjust="tukey"),
            "pairwise differences",
        ),
        (
            lambda f: f.emmeans("recipe").contrasts({"c": [1, -1]}),
            "Found 2 weights for contrast 'c'",
        ),
    ],
)
def test_messages(fit, ask, message):
    with pytest.raises(slm.InferenceError, match=message):
        ask(fit)


def test_messages_about_numbers(cake):
    fit = slm.lmm("angle ~ recipe + np.log(temp) + (1 | recipe:replicate)", cake)
    with pytest.raises(slm.InferenceError, match="only inside transformations"):
        fit.emmeans("recipe")
    with pytest.raises(slm.InferenceError, match=r"such as at=\{'temp'"):
        fit.emmeans("temp")
    assert isinstance(fit.emmeans("recipe", at={"temp": 200}).table, pd.DataFrame)


def test_what_is_averaged_over_is_named(fit, cake):
    text = str(fit.emmeans("recipe")).splitlines()
    assert text[-3:] == [
        "Averaged over the levels of: temperature",
        "Note: recipe interacts with temperature, over which it is averaged",
        "95 % intervals, ddf: satterthwaite",
    ]
    assert str(fit.emmeans("recipe", by="temperature")).splitlines()[-2].split()[:2] == ["C", "225"]
    assert "Averaged over the levels of: temperature" in fit.emmeans("recipe")._repr_html_()
    additive = slm.lmm("angle ~ recipe + temp + (1 | recipe:replicate)", cake)
    assert str(additive.emmeans("recipe")).splitlines()[-2] == "At temp = 200"


@pytest.mark.parametrize(
    ("adjust", "note"),
    [
        ("tukey", "p-values and 95 % intervals adjusted: tukey, for 3 means"),
        ("sidak", "p-values and 95 % intervals adjusted: sidak, for 3 contrasts"),
        ("bonferroni", "p-values and 95 % intervals adjusted: bonferroni, for 3 contrasts"),
        ("none", "p-values and 95 % intervals are not adjusted"),
        (
            "holm",
            "p-values adjusted: holm, for 3 contrasts; 95 % intervals: bonferroni, for holm has none",
        ),
    ],
)
def test_adjustments_say_what_was_adjusted(fit, adjust, note):
    got = fit.emmeans("recipe").contrasts(adjust=adjust)
    assert str(got).splitlines()[-1] == note
    width = (got.table["conf_high"] - got.table["conf_low"]) / (2.0 * got.table["std_error"])
    expected = adjusted_quantile(0.95, got.table["df"].to_numpy(), adjust, 3, 3)
    np.testing.assert_allclose(width, expected, rtol=1e-8)


def test_rounding_is_printed_as_zero(cake):
    means = cake.groupby("recipe", observed=True)["angle"].transform("mean")
    fit = slm.lmm(
        "angle ~ recipe + (1 | recipe:replicate)", cake.assign(angle=cake["angle"] - means)
    )
    rows = [line.split() for line in str(fit.emmeans("recipe")).splitlines()[2:5]]
    assert [row[1] for row in rows] == ["0", "0", "0"]
    rows = [line.split() for line in str(fit.emmeans("recipe").contrasts()).splitlines()[2:5]]
    assert [row[3] for row in rows] == ["0", "0", "0"]
    assert [row[5] for row in rows] == ["0", "0", "0"]


def test_factors_stand_in_one_place(fit):
    with pytest.raises(slm.InferenceError, match="Found 'recipe' in factors and in by; expected"):
        fit.emmeans(["recipe"], by="recipe")
    with pytest.raises(slm.InferenceError, match="Found no factor; expected factors"):
        fit.emmeans([])
    once, twice = fit.emmeans("recipe"), fit.emmeans(["recipe", "recipe"])
    pd.testing.assert_frame_equal(once.table, twice.table)
    assert str(fit.emmeans("recipe", at={"temperature": "175"})).splitlines()[-2] == (
        "At temperature = 175"
    )
