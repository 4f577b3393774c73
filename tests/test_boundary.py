"""The boundary is an outcome: zero variances, perfect correlations, thin levels, dependent columns."""

import warnings

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.optimise import minimise
from sparselmm.optimum import Outcome
from sparselmm.varcorr import combination, reduced_echelon


def quiet(*args, **kwargs):
    """A fit whose warnings are known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", slm.SparseLMMWarning)
        return slm.lmm(*args, **kwargs)


def grouped(rng, levels=30, rows=12):
    """Rows of a balanced grouping with a predictor."""
    g = np.repeat(np.arange(levels), rows)
    return pd.DataFrame({"g": g, "x": rng.standard_normal(levels * rows)})


def perfect(correlation, seed=8):
    """A random intercept and slope that are multiples of each other."""
    rng = np.random.default_rng(seed)
    data = grouped(rng)
    u = rng.standard_normal(30)[data["g"]]
    noise = rng.standard_normal(len(data))
    return data.assign(y=1 + u + correlation * 0.5 * u * data["x"] + noise)


class TestZeroVariance:
    def test_the_fit_is_least_squares(self):
        data = slm.load_dataset("dyestuff2")
        for reml in (True, False):
            fit = quiet("Yield ~ 1 + (1 | Batch)", data, reml=reml)
            y = data["Yield"].to_numpy()
            assert fit.theta.tolist() == [0.0]
            assert fit.params["Intercept"] == pytest.approx(y.mean(), rel=1e-12)
            assert fit.sigma == pytest.approx(y.std(ddof=int(reml)), rel=1e-12)
            assert fit.varcorr["sdcor"][0] == 0.0
            assert (fit.ranef()[["condval", "condsd"]] == 0).all(axis=None)
            np.testing.assert_allclose(fit.fittedvalues, y.mean())
            assert np.isfinite(fit.conf_int()).all(axis=None)

    def test_message(self):
        with pytest.warns(slm.SingularFitWarning) as seen:
            slm.lmm("Yield ~ 1 + (1 | Batch)", slm.load_dataset("dyestuff2"))
        assert str(seen[0].message) == (
            "The fit is singular: in (1 | Batch): Intercept has variance zero. This is the optimum, "
            "on the boundary of the parameters; diagnose() compares simpler models."
        )

    def test_of_a_slope_only(self, rng):
        data = grouped(rng)
        noise = rng.standard_normal(len(data))
        means = pd.Series(noise * data["x"]).groupby(data["g"]).transform("mean")
        data["y"] = rng.standard_normal(30)[data["g"]] + noise - 0.9 * means * data["x"]
        with pytest.warns(slm.SingularFitWarning, match=r"\(0 \+ x \| g\): x has variance zero"):
            fit = slm.lmm("y ~ x + (x || g)", data)
        assert fit.varcorr["sdcor"][1] == 0.0
        smaller = quiet("y ~ x + (1 | g)", data)
        assert fit.deviance == pytest.approx(smaller.deviance, rel=1e-10)


class TestPerfectCorrelation:
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_is_found_and_said(self, sign):
        with pytest.warns(slm.SingularFitWarning) as seen:
            fit = slm.lmm("y ~ x + (x | g)", perfect(sign))
        assert fit.outcome is Outcome.SINGULAR
        assert fit.optimum.evaluations <= 15
        assert fit.varcorr["sdcor"][2] == pytest.approx(sign, abs=1e-8)
        between = "-" if sign > 0 else "+"
        assert f"in (x | g): x {between} " in str(seen[0].message)
        assert " Intercept does not vary" in str(seen[0].message)
        assert "Singular in (x | g)" in str(fit.describe())

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_is_reached_from_any_data(self, sign):
        for seed in range(25):
            fit = quiet("y ~ x + (x | g)", perfect(sign, seed))
            assert fit.converged, (seed, fit.optimum.certificate)
            assert fit.optimum.evaluations <= 15

    def test_named_combination_has_no_variance(self):
        fit = quiet("y ~ x + (x | g)", perfect(1))
        b = fit.fit.b()[0]
        ratio = b[:, 0] / b[:, 1]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
        weight = float(str(fit.describe()).split("x - ")[1].split(" Intercept does")[0])
        assert weight == pytest.approx(1 / ratio[0], rel=5e-3)

    def test_a_singular_fit_can_be_asked_everything(self):
        data = perfect(1)
        fit = quiet("y ~ x + (x | g)", data)
        assert (fit.ranef()["condsd"] > 0).all()
        assert fit.is_singular()
        assert not quiet("y ~ x + (1 | g)", data).is_singular()
        for text in (fit.summary(), fit.describe(), fit):
            assert "nan" not in str(text).lower()
        assert fit.t_test("x", ddf="satterthwaite").table["df"].iloc[0] > 0

    def test_combinations_of_three(self):
        null = reduced_echelon(np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 4.0]]))
        texts = sorted(combination(["a", "b", "c"], row) for row in null)
        assert texts == ["b + 0.5 a", "c"]


class TestThinLevels:
    def test_as_many_levels_as_rows_without_identification(self, sleepstudy):
        data = sleepstudy.assign(row=np.arange(180))
        with pytest.raises(slm.DataError, match="cannot be told from the residual"):
            slm.lmm("Reaction ~ Days + (1 | row)", data)

    def test_as_many_levels_as_rows_with_identification(self, sleepstudy):
        data = sleepstudy.assign(row=np.arange(180))
        with pytest.warns(slm.IdentifiabilityWarning):
            fit = slm.lmm("Reaction ~ Days + (0 + Days | row)", data)
        assert fit.converged

    def test_some_levels_of_one_row(self, sleepstudy):
        data = sleepstudy.groupby("Subject", observed=True).head(3)
        data = pd.concat([data, sleepstudy.iloc[[9]].assign(Subject="only")])
        fit = quiet("Reaction ~ Days + (1 | Subject)", data)
        assert fit.converged
        assert len(fit.ranef()) == 19

    def test_two_levels(self, sleepstudy):
        data = sleepstudy[sleepstudy["Subject"].isin(["308", "309"])]
        fit = quiet("Reaction ~ Days + (1 | Subject)", data)
        assert fit.converged
        assert len(fit.coef()["Subject"]) == 2


class TestFixedPart:
    def test_no_fixed_effects(self, sleepstudy):
        fit = slm.lmm("Reaction ~ 0 + (1 | Subject)", sleepstudy)
        assert len(fit.params) == len(fit.conf_int()) == len(fit.tidy()) == 0
        assert fit.cov_params().shape == (0, 0)
        assert fit.df_model == 2
        assert "Fixed effects" not in str(fit.summary())
        ml = slm.lmm("Reaction ~ 0 + (1 | Subject)", sleepstudy, reml=False)
        assert fit.deviance == pytest.approx(ml.deviance, rel=1e-12)

    def test_earliest_columns_are_kept(self, sleepstudy):
        data = sleepstudy.assign(a=sleepstudy["Days"] * 2 + 1, b=sleepstudy["Days"] ** 2)
        with pytest.warns(slm.RankWarning) as seen:
            fit = slm.lmm("Reaction ~ Days + a + b + (1 | Subject)", data)
        assert str(seen[0].message) == (
            "1 of 4 columns in the fixed part (a) depends on earlier ones and was dropped: NaN in "
            "the tables. Leave out of the formula what cannot be told apart."
        )
        assert fit.params.isna().tolist() == [False, False, True, False]
        new = fit.predict(data.head(4))
        np.testing.assert_allclose(new, fit.fittedvalues.head(4))

    def test_empty_cells_of_an_interaction(self):
        data = slm.load_dataset("cake")
        empty = (data["recipe"] == "B") & (data["temperature"] == "175")
        with pytest.warns(slm.RankWarning):
            fit = slm.lmm(
                "angle ~ recipe * temperature + (1 | recipe:replicate)", data[~empty], reml=False
            )
        assert fit.params.isna().sum() == 1
        assert fit.predict(data[~empty]).notna().all()

    def test_more_columns_than_rows(self, sleepstudy):
        data = sleepstudy.iloc[[0, 1, 10]].assign(a=[1.0, 5, 2], b=[2.0, 2, 7])
        with pytest.raises(slm.DataError, match="Found 3 fixed effects for 3 rows"):
            slm.lmm("Reaction ~ a + b + (1 | Subject)", data)


class TestDegenerateResponse:
    def test_constant(self, sleepstudy):
        with pytest.raises(slm.DataError, match="is constant"):
            slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy.assign(Reaction=1.0))

    def test_reproduced_by_the_fixed_effects(self, sleepstudy):
        data = sleepstudy.assign(y=2 + 3 * sleepstudy["Days"])
        with pytest.raises(slm.DataError, match="reproduce all 180 values of 'y' exactly"):
            slm.lmm("y ~ Days + (1 | Subject)", data)

    def test_reproduced_by_the_random_effects(self, sleepstudy):
        data = sleepstudy.assign(y=sleepstudy["Subject"].cat.codes.astype(float))
        with pytest.warns(slm.ConvergenceWarning, match="the likelihood has no maximum"):
            fit = slm.lmm("y ~ 1 + (1 | Subject)", data)
        assert not fit.converged


class TestScales:
    """Numbers far from one keep their digits."""

    FORMULA = "Reaction ~ Days + (Days | Subject)"

    @pytest.mark.parametrize("shift", [1e8, -1e10])
    def test_large_mean_of_the_response(self, sleepstudy, shift):
        fit = slm.lmm(self.FORMULA, sleepstudy)
        moved = slm.lmm(self.FORMULA, sleepstudy.assign(Reaction=sleepstudy["Reaction"] + shift))
        assert moved.deviance == pytest.approx(fit.deviance, rel=1e-9)
        assert moved.params["Intercept"] - shift == pytest.approx(
            fit.params["Intercept"], abs=1e-15 * abs(shift) * 10 + 1e-9
        )
        np.testing.assert_allclose(moved.theta, fit.theta, atol=2e-5)

    @pytest.mark.parametrize("factor", [1e-6, 1e6])
    def test_units_of_the_response(self, sleepstudy, factor):
        fit = slm.lmm(self.FORMULA, sleepstudy)
        scaled = slm.lmm(self.FORMULA, sleepstudy.assign(Reaction=sleepstudy["Reaction"] * factor))
        np.testing.assert_allclose(scaled.params, fit.params * factor, rtol=1e-9)
        np.testing.assert_allclose(scaled.theta, fit.theta, rtol=1e-6)

    def test_large_mean_of_a_predictor(self, sleepstudy):
        fit = slm.lmm("Reaction ~ Days + (1 | Subject)", sleepstudy)
        moved = slm.lmm(
            "Reaction ~ Days + (1 | Subject)", sleepstudy.assign(Days=sleepstudy["Days"] + 1e6)
        )
        assert moved.params["Days"] == pytest.approx(fit.params["Days"], rel=1e-8)
        assert moved.bse["Days"] == pytest.approx(fit.bse["Days"], rel=1e-6)
        assert moved.deviance == pytest.approx(fit.deviance, rel=1e-9)


def test_nothing_invisible_is_left_of_a_column_without_a_pivot():
    """Where a variance is zero, rounding leaves neither a sign nor a correlation with it."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        g, h = rng.integers(0, 7, 40), rng.integers(0, 4, 40)
        data = pd.DataFrame({"y": rng.normal(size=40), "x": rng.normal(size=40), "g": g, "h": h})
        fit = quiet("y ~ x + (x | g) + (1 | h)", data, reml=bool(seed % 2)).fit
        for t in fit.T:
            assert (t.diagonal() >= 0.0).all()
            assert not ((t != 0.0) & (np.abs(t) < 1e-9)).any()


def nearly_exact(seed):
    """Groups nested in pairs, and a residual of a ten-thousandth: the variance of pairs hides behind the groups'."""
    rng = np.random.default_rng(seed)
    g, x = rng.integers(0, 8, 25), rng.normal(size=25)
    y = rng.normal(size=8)[g] + 1e-4 * rng.normal(size=25)
    return pd.DataFrame({"y": y, "x": x, "g": g, "h": g // 2})


@pytest.mark.parametrize("seed", [0, 5, 6, 7, 10, 20, 23])
def test_a_plateau_is_not_called_an_optimum(seed):
    """Near a variance of zero the deviance is flat; what is called converged is as low as any start leads."""
    fit = quiet("y ~ x + (1 | g) + (1 | h)", nearly_exact(seed)).fit
    starts = [4e3, 4e3], [8e3, 1e3], [3e3, 9e3]
    found = [minimise(fit.problem, np.array(start)).solution.deviance for start in starts]
    better = min(found) < fit.solution.deviance - 1e-3
    assert better == (seed in (5, 10, 20, 23))
    assert fit.optimum.outcome is (Outcome.STALLED if better else Outcome.SINGULAR)
