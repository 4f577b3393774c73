"""F tests of terms: R's values, unbalanced and incomplete data, and what must not matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from tests.inference.test_ddf import fitted
from tests.values import case_id, cases

ANOVA = [case for case in cases() if case.get("anova3_satterthwaite")]
NESTED = "angle ~ recipe + recipe:temperature + (1 | replicate)"
FACTORIAL = "angle ~ recipe * temperature + x + (1 | replicate)"

# lmerTest 3.1-3 and pbkrtest 0.5.2: den_df and f_value of recipe, temperature, x, recipe:temperature
# on unbalanced() and on incomplete(); the last block is type III by Kenward and Roger.
UNBALANCED = {
    (1, "satterthwaite"): [
        [163.077660610, 163.311475912, 163.046043628, 163.371640082],
        [1.4197016581156, 12.7056968841179, 0.0333975882947, 1.2814211975141],
    ],
    (2, "satterthwaite"): [
        [163.081730323, 163.311248233, 163.056915584, 163.372671094],
        [1.543574840111, 12.705856907970, 0.884040971743, 1.281421197514],
    ],
    (3, "satterthwaite"): [
        [163.080784676, 163.317834822, 163.056915584, 163.372671094],
        [1.398372441026, 12.583761637493, 0.884040971743, 1.281421197514],
    ],
    (3, "kenward-roger"): [
        [163.077178708, 163.314481181, 163.053306840, 163.368588203],
        [1.39827285975, 12.58031251341, 0.88399624593, 1.28075999519],
    ],
}
INCOMPLETE = {
    (1, "satterthwaite"): [
        [154.125159707, 154.323957119, 154.078819136, 154.419399171],
        [1.352429766115, 12.359790499565, 0.111209978949, 1.345360291122],
    ],
    (2, "satterthwaite"): [
        [154.133317391, 154.323703970, 154.085881365, 154.420612492],
        [1.76446246287, 12.36067700344, 1.27687697370, 1.34536029112],
    ],
    (3, "satterthwaite"): [
        [154.134334057, 154.327214526, 154.085881365, 154.420612492],
        [1.63221110524, 12.25110108411, 1.27687697370, 1.34536029112],
    ],
    (3, "kenward-roger"): [
        [154.116827485, 154.309993462, 154.068372044, 154.402829030],
        [1.63194180780, 12.24700751419, 1.27678880982, 1.34448310017],
    ],
}
TERMS = ["recipe", "temperature", "x", "recipe:temperature"]


def unbalanced() -> pd.DataFrame:
    cake = slm.load_dataset("cake")
    kept = cake[(np.arange(len(cake)) * 7) % 11 > 2].reset_index(drop=True)
    return kept.assign(x=np.cos(np.arange(len(kept))))


def incomplete() -> pd.DataFrame:
    data = unbalanced()
    return data[~((data.recipe == "B") & (data.temperature == "195"))]


@pytest.mark.parametrize("case", ANOVA, ids=case_id)
def test_type_three_of_every_reference_fit(case):
    fit, expected = fitted(case), case["anova3_satterthwaite"]
    table = fit.anova().table
    assert list(table.index) == expected["row_names"]
    # lmerTest rounds its hypotheses to seven digits
    values = np.array(expected["values"], float)
    np.testing.assert_allclose(table.to_numpy()[:, :5], values[:, :5], rtol=1e-6)
    kr = (case.get("kenward_roger") or {}).get("anova3")
    if kr:
        table = fit.anova(ddf="kenward-roger").table
        values = np.array(kr["values"], float)
        np.testing.assert_allclose(table.to_numpy()[:, :5], values[:, :5], rtol=1e-6)


@pytest.mark.parametrize(("type", "ddf"), UNBALANCED)
def test_unbalanced_data(type, ddf):
    table = slm.lmm(FACTORIAL, unbalanced()).anova(type, ddf).table.loc[TERMS]
    np.testing.assert_allclose(table[["den_df", "f_value"]].T, UNBALANCED[type, ddf], rtol=1e-6)
    assert table["num_df"].tolist() == [2, 5, 1, 10]


@pytest.mark.filterwarnings("ignore::sparselmm.RankWarning")
@pytest.mark.parametrize(("type", "ddf"), INCOMPLETE)
def test_a_missing_cell(type, ddf):
    table = slm.lmm(FACTORIAL, incomplete()).anova(type, ddf).table.loc[TERMS]
    np.testing.assert_allclose(table[["den_df", "f_value"]].T, INCOMPLETE[type, ddf], rtol=1e-6)
    assert table["num_df"].tolist() == [2, 5, 1, 9]


@pytest.mark.parametrize("type", [1, 2, 3])
@pytest.mark.parametrize("coding", ["sum", "helmert", "sas", "diff", "poly"])
def test_contrasts_do_not_matter(type, coding):
    data = unbalanced()
    plain = slm.lmm(FACTORIAL, data).anova(type).table
    coded = slm.lmm(FACTORIAL, data, contrasts={"recipe": coding, "temperature": coding})
    np.testing.assert_allclose(coded.anova(type).table["f_value"], plain["f_value"], rtol=1e-6)


def test_type_three_does_not_depend_on_which_level_comes_first():
    data = unbalanced()
    turned = data.assign(
        recipe=data.recipe.cat.reorder_categories(["C", "A", "B"]),
        temperature=data.temperature.cat.reorder_categories(
            ["225", "175", "205", "185", "195", "215"]
        ),
    )
    plain, other = (slm.lmm(FACTORIAL, d).anova(3).table for d in (data, turned))
    np.testing.assert_allclose(other["f_value"], plain["f_value"], rtol=1e-6)


def test_type_three_tests_means_that_weigh_levels_alike():
    """Cell means give the hypothesis directly: equal means over the six temperatures."""
    data = unbalanced()
    factorial = slm.lmm("angle ~ recipe * temperature + (1 | replicate)", data)
    cells = slm.lmm("angle ~ 0 + recipe:temperature + (1 | replicate)", data)
    names = list(cells.params.index)
    means = np.array([[float(f"recipe[{r}]" in name) / 6.0 for name in names] for r in "ABC"])
    direct = cells.wald_test(means[1:] - means[0], ddf="satterthwaite")
    row = factorial.anova().table.loc["recipe"]
    assert row["f_value"] == pytest.approx(direct.statistic, rel=1e-6)
    assert row["den_df"] == pytest.approx(direct.df_resid, rel=1e-3)


def test_balanced_data_have_one_analysis_of_variance():
    fit = slm.lmm("angle ~ recipe * temperature + (1 | recipe:replicate)", slm.load_dataset("cake"))
    first, second, third = (fit.anova(type).table["f_value"] for type in (1, 2, 3))
    np.testing.assert_allclose(second, first, rtol=1e-6)
    np.testing.assert_allclose(third, first, rtol=1e-6)


def test_a_term_written_through_others_contains_them():
    data = unbalanced()
    crossed = slm.lmm("angle ~ recipe * temperature + (1 | replicate)", data)
    nested = slm.lmm(NESTED, data)
    assert nested.deviance == pytest.approx(crossed.deviance)
    expected = crossed.anova(3).table.loc["recipe", "f_value"]
    assert nested.anova(3).table.loc["recipe", "f_value"] == pytest.approx(expected, rel=1e-6)
    alone = slm.lmm("angle ~ recipe + (1 | replicate)", data)
    first = nested.anova(2).table.loc["recipe"]
    assert first["num_df"] == alone.anova(2).table.loc["recipe", "num_df"]


def test_numeric_variables_are_not_contained_in_products_with_factors():
    fit = slm.lmm("angle ~ recipe * x + (1 | replicate)", unbalanced())
    L = fit.anova(3).hypotheses
    np.testing.assert_allclose(
        L["recipe"],
        np.eye(6)[[fit.params.index.get_loc(c) for c in ("recipe[T.B]", "recipe[T.C]")]],
    )
    slope = L["x"].iloc[0]
    assert slope["x"] == pytest.approx(1.0)
    assert slope[["recipe[T.B]:x", "recipe[T.C]:x"]].tolist() == pytest.approx([1 / 3, 1 / 3])


def test_columns_of_one_variable_are_tested_together():
    fit = slm.lmm("angle ~ poly(temp, 3) * recipe + (1 | replicate)", slm.load_dataset("cake"))
    table = fit.anova().table
    assert table["num_df"].to_dict() == {"poly(temp, 3)": 3, "recipe": 2, "poly(temp, 3):recipe": 6}
    assert np.isfinite(table["f_value"]).all()


def test_numeric_terms_are_tested_by_their_coefficients(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    row = fit.anova().table.loc["Days"]
    t = fit.t_test("Days", ddf="satterthwaite").table.iloc[0]
    assert row["f_value"] == pytest.approx(t["statistic"] ** 2)
    assert row["den_df"] == pytest.approx(t["df"])


def test_other_degrees_of_freedom(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    assert fit.anova(ddf="residual").table["den_df"].tolist() == [178.0]
    wald = fit.wald_test("Days")
    assert fit.anova(ddf="inf").table["p_value"].item() == pytest.approx(wald.p_value)


def test_an_intercept_only_has_no_terms():
    fit = slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff"))
    assert fit.anova().table.empty
    assert list(fit.anova(1).table.columns)[:3] == ["sum_sq", "mean_sq", "num_df"]


def test_text_and_html(sleepstudy):
    found = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy).anova("II")
    assert str(found).startswith("Type II analysis of variance with Satterthwaite's method\n")
    assert "<table" in found._repr_html_()


def test_messages(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy)
    with pytest.raises(slm.InferenceError, match=r"^Found type=4; expected 1, 2 or 3\.$"):
        fit.anova(4)
    with pytest.raises(slm.InferenceError, match="Found ddf='kr'"):
        fit.anova(ddf="kr")
    ml = slm.lmm("Reaction ~ Days + (Days | Subject)", sleepstudy, reml=False)
    with pytest.raises(slm.InferenceError, match="Found a fit by maximum likelihood"):
        ml.anova(ddf="kenward-roger")


def test_an_intercept_has_no_term_to_test(sleepstudy):
    found = slm.lmm("Reaction ~ 1 + (1 | Subject)", sleepstudy).anova()
    assert found.table.empty
    assert str(found).splitlines() == [
        "Type III analysis of variance with Satterthwaite's method",
        "(no term to test: the fixed part has none besides the intercept)",
    ]
    assert "no term to test" in found._repr_html_()
