"""What results say: names, tables, text, tests, predictions, and that they survive a pickle."""

import pickle

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.inference.hypotheses import parse_hypotheses

SLOPE = "Reaction ~ Days + (Days | Subject)"
BROOM = [
    "term", "estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high",
]  # fmt: skip


@pytest.fixture(scope="module")
def fit():
    return slm.lmm(SLOPE, slm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def cake():
    return slm.lmm(
        "angle ~ recipe * temperature + (1 | recipe:replicate)",
        slm.load_dataset("cake"),
        reml=False,
    )


@pytest.fixture(scope="module")
def aliased():
    data = slm.load_dataset("sleepstudy")
    data["Hours"] = 24.0 * data["Days"]
    with pytest.warns(slm.RankWarning):
        return slm.lmm("Reaction ~ Hours + Days + (1 | Subject)", data)


class TestNames:
    def test_all_names_of_the_design(self, fit):
        """The table of public names, as far as this floor holds them."""
        names = """params bse cov_params tvalues pvalues conf_int t_test wald_test varcorr sigma scale
            theta ranef coef llf deviance aic bic nobs df_model fittedvalues resid predict converged
            outcome is_singular describe optimum summary tidy glance augment"""
        for name in names.split():
            assert hasattr(fit, name), name

    def test_results_are_read_only(self, fit):
        with pytest.raises(AttributeError):
            fit.params = 1
        with pytest.raises(AttributeError):
            fit.anything = 1

    def test_answers_are_copies(self, fit):
        params, theta = fit.params, fit.theta
        params.iloc[0] = 0.0
        theta[:] = 0.0
        assert fit.params.iloc[0] > 200
        assert fit.theta[0] > 0.5

    def test_methods_keep_signature_and_documentation(self):
        import inspect

        assert list(inspect.signature(slm.Results.ranef).parameters) == ["self", "condvar"]
        assert "Conditional modes" in slm.Results.ranef.__doc__
        assert "Fixed effects" in slm.Results.__dict__["params"].__doc__


class TestFixedEffects:
    def test_indices_are_formulaic_names(self, fit, cake):
        assert list(fit.params.index) == ["Intercept", "Days"]
        assert "recipe[T.B]:temperature[T.185]" in cake.params.index
        assert list(cake.cov_params().columns) == list(cake.params.index)

    def test_wald_numbers(self, fit):
        np.testing.assert_allclose(fit.tvalues, fit.params / fit.bse)
        np.testing.assert_allclose(fit.bse**2, np.diag(fit.cov_params()))
        from scipy.stats import norm

        np.testing.assert_allclose(fit.pvalues, 2 * norm.sf(np.abs(fit.tvalues)), rtol=1e-12)
        interval = fit.conf_int(level=0.9)
        assert list(interval.columns) == ["lower", "upper"]
        np.testing.assert_allclose(interval["upper"], fit.params + norm.ppf(0.95) * fit.bse)
        assert list(fit.conf_int(parm="Days").index) == ["Days"]

    def test_dropped_columns_stay_as_missing(self, aliased):
        assert list(aliased.params.index) == ["Intercept", "Hours", "Days"]
        for values in (aliased.params, aliased.bse, aliased.pvalues, aliased.tvalues):
            assert values.isna().tolist() == [False, False, True]
        assert aliased.cov_params().isna().to_numpy().sum() == 5
        assert aliased.conf_int().loc["Days"].isna().all()
        assert aliased.tidy().loc[2].drop("term").isna().all()
        assert aliased.df_model == 2 + 1 + 1
        assert "Days" in str(aliased.summary()).split("Dropped as linearly dependent")[1]

    def test_dropped_columns_do_not_change_the_fit(self, aliased):
        plain = slm.lmm("Reaction ~ Days + (1 | Subject)", slm.load_dataset("sleepstudy"))
        assert aliased.params["Hours"] * 24 == pytest.approx(plain.params["Days"], rel=1e-9)
        np.testing.assert_allclose(aliased.fittedvalues, plain.fittedvalues, rtol=1e-9)


class TestHypotheses:
    NAMES = ("Intercept", "x", "x1", "C(f, Sum)[S.a]", "recipe[T.B]:temp", "a - b")

    @pytest.mark.parametrize(
        ("text", "row", "value"),
        [
            ("x", {"x": 1}, 0),
            ("x1 = 3", {"x1": 1}, 3),
            ("x1 - x", {"x1": 1, "x": -1}, 0),
            ("2*x1 + 1 = x/4", {"x1": 2, "x": -0.25}, -1),
            ("-(x - 2) = .5e1", {"x": -1}, 3),
            ("C(f, Sum)[S.a] = recipe[T.B]:temp", {"C(f, Sum)[S.a]": 1, "recipe[T.B]:temp": -1}, 0),
            ("`a - b` = 1", {"a - b": 1}, 1),
            ("3*(x + 2*x1)/2 = 0", {"x": 1.5, "x1": 3}, 0),
        ],
    )
    def test_text(self, text, row, value):
        rows = parse_hypotheses(text, self.NAMES)
        np.testing.assert_allclose(rows.L, [[row.get(name, 0.0) for name in self.NAMES]])
        assert rows.values.tolist() == [value]

    def test_several_and_chains(self):
        rows = parse_hypotheses("x = x1 = 2, Intercept", self.NAMES)
        assert rows.L.shape == (3, 6)
        assert rows.values.tolist() == [0.0, 2.0, 0.0]
        assert rows.labels == ("x = x1 = 2", "x = x1 = 2", "Intercept")
        same = parse_hypotheses(["x = x1", "x1 = 2", "Intercept"], self.NAMES)
        np.testing.assert_array_equal(rows.L, same.L)

    def test_matrices_frames_and_mappings(self):
        names = ["a", "b"]
        expected = np.array([[1.0, -1.0]])
        for given in (
            [1, -1],
            [[1, -1]],
            {"a": 1, "b": -1},
            pd.DataFrame({"b": [-1], "a": [1]}),
            pd.Series({"b": -1, "a": 1}),
            ([[1, -1]], [0.0]),
        ):
            np.testing.assert_array_equal(parse_hypotheses(given, names).L, expected)
        assert parse_hypotheses(([1, -1], 2.5), names).labels == ("a - b = 2.5",)

    def test_t_test_agrees_with_the_definition(self, fit):
        L = np.array([[1.0, 9.0], [0.0, 1.0]])
        tests = fit.t_test((L, [300, 10])).table
        V = fit.cov_params().to_numpy()
        error = np.sqrt(np.diag(L @ V @ L.T))
        np.testing.assert_allclose(tests["estimate"], L @ fit.params)
        np.testing.assert_allclose(tests["std_error"], error)
        np.testing.assert_allclose(tests["statistic"], (L @ fit.params - [300, 10]) / error)
        by_name = fit.t_test("Intercept + 9*Days = 300, Days = 10").table
        np.testing.assert_allclose(by_name, tests)

    def test_t_test_with_degrees_of_freedom(self, fit):
        from scipy.stats import t

        row = fit.t_test("Days", ddf=17).table.loc["Days"]
        assert row["p_value"] == pytest.approx(2 * t.sf(row["statistic"], 17), rel=1e-10)
        assert row["conf_high"] == pytest.approx(
            row["estimate"] + t.ppf(0.975, 17) * row["std_error"], rel=1e-10
        )

    def test_wald_test(self, fit, cake):
        from scipy.stats import chi2, f

        joint = fit.wald_test("Intercept = 250, Days = 10")
        d = fit.params.to_numpy() - [250, 10]
        expected = d @ np.linalg.solve(fit.cov_params(), d)
        assert joint.statistic == pytest.approx(expected, rel=1e-9)
        assert joint.p_value == pytest.approx(chi2.sf(expected, 2), rel=1e-9)
        assert (joint.df, joint.distribution) == (2, "chi2")
        with_df = fit.wald_test("Intercept = 250, Days = 10", ddf=20)
        assert with_df.p_value == pytest.approx(f.sf(expected / 2, 2, 20), rel=1e-9)
        interaction = [name for name in cake.params.index if ":" in name]
        assert cake.wald_test(interaction).df == 10

    def test_repeated_rows_do_not_count(self, fit):
        once, twice = fit.wald_test("Days"), fit.wald_test("Days, 2*Days")
        assert twice.df == 1
        assert twice.statistic == pytest.approx(once.statistic, rel=1e-9)


class TestRandomEffects:
    def test_varcorr_of_several_terms_on_one_factor(self):
        data = slm.load_dataset("sleepstudy")
        fit = slm.lmm("Reaction ~ Days + (Days || Subject)", data)
        assert fit.varcorr["grp"].tolist() == ["Subject", "Subject.1", "Residual"]
        assert fit.varcorr["var2"].isna().all()
        assert fit.tidy("random_sd")["term"].tolist() == [
            "sd_Intercept|Subject", "sd_Days|Subject.1", "sigma",
        ]  # fmt: skip
        assert set(fit.ranef()["term"]) == {"Intercept", "Days"}

    def test_ranef_order(self, fit):
        table = fit.ranef()
        assert table["term"].tolist() == ["Intercept"] * 18 + ["Days"] * 18
        assert table["grp"].tolist() == list(fit.fit.spec.levels[0]) * 2

    def test_coef_is_fixed_plus_random(self, fit):
        coefficients = fit.coef()["Subject"]
        modes = fit.ranef(condvar=False).pivot(index="grp", columns="term", values="condval")
        modes = modes.loc[coefficients.index, coefficients.columns]
        np.testing.assert_allclose(coefficients, modes + fit.params)

    def test_coef_without_a_fixed_counterpart(self):
        data = slm.load_dataset("sleepstudy")
        fit = slm.lmm("Reaction ~ 1 + (Days | Subject)", data)
        assert list(fit.coef()["Subject"].columns) == ["Intercept", "Days"]


class TestTables:
    def test_tidy(self, fit):
        for effects, rows in (("fixed", 2), ("random_sd", 4)):
            table = fit.tidy(effects)
            assert list(table.columns) == BROOM
            assert len(table) == rows
        random = fit.tidy("random", conf_level=0.95)
        assert list(random.columns) == ["group", "level", *BROOM]
        np.testing.assert_allclose(random["estimate"], fit.ranef()["condval"])
        np.testing.assert_allclose(fit.tidy("random_sd")["estimate"], fit.varcorr["sdcor"])

    def test_tidy_intervals(self, fit):
        table = fit.tidy(conf_level=0.9)
        np.testing.assert_allclose(table[["conf_low", "conf_high"]], fit.conf_int(level=0.9))
        assert fit.tidy(conf_level=None)[["conf_low", "conf_high"]].isna().all(axis=None)
        default = fit.tidy()[["conf_low", "conf_high"]]
        np.testing.assert_allclose(default, fit.conf_int(0.95))

    @pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", 11.5])
    def test_intervals_with_degrees_of_freedom(self, fit, ddf):
        table = fit.tidy(ddf=ddf, conf_level=0.9).set_index("term")[["conf_low", "conf_high"]]
        np.testing.assert_allclose(fit.conf_int(0.9, ddf=ddf), table, rtol=1e-14)
        assert (fit.conf_int(0.9, ddf=ddf)["upper"] > fit.conf_int(0.9)["upper"]).all()
        row = fit.conf_int(0.9, parm="Days", ddf=ddf)
        np.testing.assert_array_equal(row, fit.conf_int(0.9, ddf=ddf).loc[["Days"]])

    def test_tidy_with_degrees_of_freedom(self, fit):
        table = fit.tidy(ddf="satterthwaite")
        assert table["df"].round(3).tolist() == [17.0, 17.0]
        adjusted = fit.tidy(ddf="kenward-roger")
        assert (adjusted["std_error"] >= table["std_error"] * (1 - 1e-9)).all()

    def test_glance(self, fit):
        row = fit.glance()
        assert len(row) == 1
        assert row.loc[0, "nobs"] == 180
        assert row.loc[0, "log_lik"] == fit.llf
        assert row.loc[0, "df_residual"] == 174
        assert bool(row.loc[0, "converged"]) is True

    def test_augment_keeps_the_index_of_the_data(self):
        data = slm.load_dataset("sleepstudy").set_index(np.arange(1000, 1180))
        data.loc[1003, "Days"] = np.nan
        fit = slm.lmm(SLOPE, data)
        table = fit.augment()
        assert 1003 not in table.index
        assert table.index.equals(data.index.delete(3))
        assert fit.fittedvalues.index.equals(table.index)
        np.testing.assert_allclose(table[".fitted"] + table[".resid"], table["Reaction"])
        np.testing.assert_allclose(table[".fixed"], fit.predict(random="none"))
        assert table["Subject"].tolist() == data["Subject"].drop(1003).tolist()


class TestText:
    def test_summary_has_the_sections_of_lme4(self, fit):
        text = str(fit.summary())
        heads = [
            "Linear mixed model fitted by REML", "Formula: " + SLOPE, "REML criterion at",
            "Scaled residuals:", "Random effects:", "Number of obs: 180, groups: Subject, 18",
            "Fixed effects:", "Correlation of fixed effects:", "Converged",
        ]  # fmt: skip
        places = [text.index(head) for head in heads]
        assert places == sorted(places)
        assert "Subject  Intercept   612.09   24.740" in text
        assert "Days        10.467      1.546   6.771 1.27e-11" in text

    def test_summary_of_an_ml_fit_has_the_criteria(self, cake):
        assert "AIC" in str(cake.summary())
        assert "log-lik" in str(cake)

    def test_summary_with_degrees_of_freedom(self, fit):
        text = str(fit.summary(ddf="satterthwaite"))
        assert "t-tests use Satterthwaite's method" in text
        assert "df t value Pr(>|t|)" in text
        assert "Kenward-Roger's" in str(fit.summary(ddf="kenward-roger"))

    def test_missing_rows_are_counted_once(self):
        data = slm.load_dataset("sleepstudy")
        data.loc[:4, "Days"] = np.nan
        weights = np.ones(180)
        weights[10:13] = 0
        text = str(slm.lmm(SLOPE, data, weights=weights).summary())
        assert text.count("Rows left out: 5 with missing values, 3 of weight zero") == 1

    def test_html_escapes_and_holds_the_same_numbers(self, fit):
        for html in (fit._repr_html_(), fit.summary()._repr_html_(), fit.describe()._repr_html_()):
            assert "<table>" in html
            assert "(Days | Subject)" in html
        assert "Pr(&gt;|z|)" in fit.summary()._repr_html_()

    def test_describe_names_path_threads_and_certificate(self, fit):
        text = str(fit.describe())
        for part in ("* grouped", "crossed", "sparse", "Threads: 1", "Certificate passed"):
            assert part in text
        assert text.count("newton") >= 2

    def test_numbers_line_up(self):
        from sparselmm.report.text import aligned

        assert aligned(np.array([1.0, np.nan, 1234.5678])) == ["   1.000", "      NA", "1234.568"]
        assert aligned(np.zeros(2)) == ["0", "0"]
        assert aligned(np.array([1e-12, 1e5]))[0] == "1.000e-12"

    def test_long_fixed_parts_stand_below_each_other(self, cake):
        assert max(len(line) for line in str(cake).splitlines()) <= 100
        assert "recipe[T.B]:temperature[T.185]" in str(cake)

    def test_log_is_in_the_users_coordinates(self):
        data = slm.load_dataset("sleepstudy").assign(x=lambda d: 1000.0 * d["Days"] + 7)
        fit = slm.lmm("Reaction ~ x + (x | Subject)", data)
        optimum = fit.optimum
        np.testing.assert_array_equal(optimum.theta, fit.theta)
        np.testing.assert_allclose(optimum.log[-1].theta, fit.theta, rtol=1e-4)
        again = slm.lmm("Reaction ~ x + (x | Subject)", data, start=optimum.log[2].theta)
        assert again.optimum.log[0].deviance == pytest.approx(optimum.log[2].deviance, rel=1e-12)


class TestPrediction:
    NEW = pd.DataFrame({"Days": [0, 3, np.nan, 9], "Subject": ["308", "new", "308", None]})

    def test_missing_values_give_missing_predictions(self, fit):
        out = fit.predict(self.NEW, new_levels="zero")
        assert out.isna().tolist() == [False, False, True, True]
        fixed = fit.predict(self.NEW, random="none")
        assert fixed.isna().tolist() == [False, False, True, False]
        assert out[1] == pytest.approx(fixed[1])

    def test_index_and_response(self, fit):
        new = self.NEW.iloc[:1].set_index(pd.Index(["row"]))
        assert list(fit.predict(new).index) == ["row"]

    def test_parts_add_up(self):
        data = slm.load_dataset("penicillin")
        fit = slm.lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
        fixed, both = fit.predict(random="none"), fit.predict()
        plate, sample = fit.predict(data, random="plate"), fit.predict(random=["1 | sample"])
        np.testing.assert_allclose(plate + sample - fixed, both, rtol=1e-12)

    def test_one_of_two_terms_on_a_factor(self):
        data = slm.load_dataset("sleepstudy")
        fit = slm.lmm("Reaction ~ Days + (Days || Subject)", data)
        one = fit.predict(data, random="(0 + Days | Subject)")
        slopes = fit.fit.b()[0][:, 1]
        expected = fit.predict(random="none") + slopes[data["Subject"].cat.codes] * data["Days"]
        np.testing.assert_allclose(one, expected)

    def test_offset_of_the_formula_counts_and_the_argument_does_not(self):
        data = slm.load_dataset("sleepstudy").assign(shift=lambda d: 5.0 * d["Days"])
        inside = slm.lmm("Reaction ~ Days + offset(shift) + (1 | Subject)", data)
        outside = slm.lmm("Reaction ~ Days + (1 | Subject)", data, offset="shift")
        np.testing.assert_allclose(inside.fittedvalues, outside.fittedvalues, rtol=1e-9)
        np.testing.assert_allclose(inside.predict(data), inside.fittedvalues)
        np.testing.assert_allclose(outside.predict(data) + data["shift"], outside.fittedvalues)


class TestPickle:
    @pytest.mark.parametrize(
        ("formula", "name", "path"),
        [
            (SLOPE, "sleepstudy", "auto"),
            ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", "crossed"),
            ("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin", "sparse"),
            ("angle ~ recipe * temperature + (1 | recipe:replicate)", "cake", "auto"),
        ],
    )
    def test_every_answer_survives(self, formula, name, path):
        if path == "sparse":
            pytest.importorskip("sksparse")
        data = slm.load_dataset(name)
        fit = slm.lmm(formula, data, path=path)
        copy = pickle.loads(pickle.dumps(fit))
        pd.testing.assert_frame_equal(copy.ranef(), fit.ranef())
        pd.testing.assert_series_equal(copy.predict(data), fit.predict(data))
        assert str(copy.summary()) == str(fit.summary())
        assert str(copy.describe()) == str(fit.describe())
        pd.testing.assert_frame_equal(copy.varcorr, fit.varcorr)

    def test_the_factorisation_does_not_travel(self, fit):
        assert pickle.loads(pickle.dumps(fit)).fit.solution.factored is None
