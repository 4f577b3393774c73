"""What statsmodels' models and results can be asked, asked of both packages."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sparselmm import MixedLM, lmm, load_dataset
from sparselmm.compat import statsmodels as ours
from sparselmm.compat.statsmodels import MixedLMParams, VCSpec
from sparselmm.errors import DataError

lme = pytest.importorskip("statsmodels.regression.mixed_linear_model")

# Public names of statsmodels that are not here; they are listed with reasons in docs/how-to/statsmodels.md.
MODEL_ABSENT = {"initialize"}
RESULTS_ABSENT = {"bsejac", "bsejhj", "covjac", "covjhj", "score_obsv", "get_nlfun", "initialize"}


def pair(formula, data, start=None, **arguments):
    """Fits of the same model by both packages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            kind.from_formula(formula, data, **arguments).fit(gtol=1e-8, start_params=start)
            for kind in (MixedLM, lme.MixedLM)
        ]


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    data = load_dataset("sleepstudy")
    subject = data["Subject"].astype(str)
    odd = subject.str[-1].astype(int) % 2
    return data.assign(Subject=subject, sex=np.where(odd, "m", "f"))


@pytest.fixture(scope="module")
def fits(sleep):
    return pair("Reaction ~ Days + sex", sleep, groups="Subject", re_formula="~Days")


@pytest.fixture(scope="module")
def plain(sleep):
    X = np.column_stack([np.ones(180), sleep["Days"]])
    arguments = (sleep["Reaction"].to_numpy(), X, sleep["Subject"].to_numpy())
    return [kind(*arguments).fit(gtol=1e-8) for kind in (MixedLM, lme.MixedLM)]


def public(value) -> set[str]:
    return {name for name in dir(value) if not name.startswith("_")}


def test_every_public_name_is_here(fits, plain):
    for mine, other in (fits, plain):
        assert public(other.model) - public(mine.model) == MODEL_ABSENT
        assert public(other) - public(mine) == RESULTS_ABSENT
        for name in RESULTS_ABSENT - {"initialize", "get_nlfun"}:
            with pytest.raises(AttributeError):
                getattr(other, name)


@pytest.mark.parametrize(
    "name", ["df_modelwc", "k_constant", "use_t", "df_resid", "nobs", "k_fe", "k_re2", "k_vc"]
)
def test_counts(name, fits):
    mine, other = (getattr(fit, name) for fit in fits)
    assert mine == other


@pytest.mark.parametrize("kind", ["MixedLM", "MixedLMResults", "MixedLMParams", "VCSpec"])
def test_arguments_have_the_same_order(kind):
    mine, other = getattr(ours, kind), getattr(lme, kind)
    for name in public(mine) & public(other):
        if not (inspect.isfunction(getattr(other, name)) and callable(getattr(mine, name))):
            continue
        expected = list(inspect.signature(getattr(other, name)).parameters)
        found = list(inspect.signature(getattr(mine, name)).parameters)
        named = [n for n in expected if n not in ("args", "kwargs")]
        assert found[: len(named)] == named, name


def test_constants_in_the_columns(sleep):
    for formula, expected in (("1", 1), ("0 + Days", 0), ("0 + sex", 1), ("0 + sex + Days", 1)):
        for kind in (MixedLM, lme.MixedLM):
            model = kind.from_formula(f"Reaction ~ {formula}", sleep, groups="Subject")
            assert model.k_constant == expected


def test_what_the_model_holds(fits):
    mine, other = (fit.model for fit in fits)
    assert isinstance(mine.groups, np.ndarray)
    assert (mine.groups == other.groups).all()
    for name in ("endog_li", "exog_li", "exog_re_li", "exog_re2_li"):
        for left, right in zip(getattr(mine, name), getattr(other, name), strict=True):
            assert_allclose(left, right)
    for name in ("xnames", "ynames", "param_names", "exog_re_names", "exog_re_names_full"):
        assert getattr(mine.data, name) == getattr(other.data, name)


def test_hessian_at_the_estimates(fits):
    mine, other = fits
    expected, _ = other.model.hessian(other.params_object)
    assert_allclose(mine.hessv[0], expected, rtol=1e-3, atol=1e-3)
    assert not mine.hessv[1]


def test_covariances_of_combinations(fits):
    mine, other = fits
    assert isinstance(mine.normalized_cov_params, pd.DataFrame)
    assert_allclose(mine.normalized_cov_params, other.normalized_cov_params, rtol=1e-3, atol=1e-7)
    R, S = np.arange(12.0).reshape(2, 6), np.ones((3, 6))
    for arguments in (
        {},
        {"r_matrix": R},
        {"r_matrix": R[0]},
        {"r_matrix": R, "other": S},
        {"scale": 1.0},
        {"cov_p": np.eye(6), "r_matrix": R},
    ):
        found, expected = (f.cov_params(**arguments) for f in (mine, other._results))
        assert np.shape(found) == np.shape(expected)
        assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="Column should be specified without other"):
        mine.cov_params(r_matrix=R, column=0)
    with pytest.raises(ValueError, match="other can only be specified with r_matrix"):
        mine.cov_params(other=R)


def test_t_instead_of_normal(sleep):
    mine, other = pair("Reaction ~ Days", sleep, groups="Subject")
    mine.use_t = other._results.use_t = True
    assert_allclose(mine.pvalues, other.pvalues, rtol=1e-3)
    assert_allclose(mine.conf_int(), other.conf_int(), rtol=1e-4, atol=1e-4)


def test_wald_tests_with_another_covariance(fits):
    R, V = np.eye(6)[:3], np.diag(np.arange(1.0, 7.0))
    for arguments in ((V,), (None, np.eye(3)), ()):
        found, expected = (fit.wald_test(R, *arguments) for fit in fits)
        assert_allclose(found.statistic, expected.statistic, rtol=1e-4)
        found, expected = (fit.f_test(R, *arguments) for fit in fits)
        assert_allclose(found.fvalue, expected.fvalue, rtol=1e-4)


def test_points_of_statsmodels_are_understood(sleep):
    model = MixedLM.from_formula("Reaction ~ Days", sleep, groups="Subject", re_formula="~Days")
    plain = model.fit()
    mask = {"fe_params": np.ones(2), "cov_re": np.eye(2)}
    start = lme.MixedLMParams.from_components(np.zeros(2), cov_re=np.diag([2.0, 0.1]))
    assert_allclose(model.fit(start_params=start).params, plain.params, rtol=1e-6)
    found = model.fit(free=lme.MixedLMParams.from_components(**mask))
    expected = model.fit(free=MixedLMParams.from_components(**mask))
    assert_allclose(found.params, expected.params)
    assert_allclose(found.bse, expected.bse)
    at = lme.MixedLMParams.from_components(
        np.asarray(plain.fe_params), cov_re=plain.params_object.cov_re
    )
    model.fit()
    assert_allclose(model.loglike(at), plain.llf)
    assert_allclose(model.score(at), 0, atol=1e-4)
    assert_allclose(model.hessian(at)[0], plain.hessv[0], atol=1e-10)
    assert_allclose(model.predict(at), plain.predict())
    with pytest.raises(TypeError, match="expected a MixedLMParams or a vector of 3"):
        model.fit(start_params=plain)


def same_predictions(fits, exog, **arguments):
    found, expected = (fit.predict(exog, **arguments) for fit in fits)
    assert type(found) is type(expected)
    assert_allclose(found, expected, rtol=1e-5)
    if isinstance(expected, pd.Series):
        assert list(found.index) == list(expected.index)


NEW = {
    "nothing": lambda _: None,
    "rows": lambda data: data.iloc[3:6],
    "needed columns": lambda data: data[["sex", "Days"]].iloc[3:6],
    "lists": lambda _: {"Days": [1.0, 2.0], "sex": ["m", "f"]},
    "one row": lambda _: {"Days": 3.0, "sex": "m"},
    "labels": lambda data: data.iloc[3:5].set_axis(["a", "b"]),
    "missing": lambda data: data.iloc[3:6].assign(Days=[1.0, np.nan, 3.0]),
    "same labels": lambda data: data.iloc[3:6].assign(Days=[1.0, 2.0, 3.0]).set_axis([0, 0, 1]),
}


@pytest.mark.parametrize("name", NEW)
def test_predictions_of_a_formula(name, fits, sleep):
    same_predictions(fits, NEW[name](sleep))


def test_predictions_from_a_series(sleep):
    both = pair("Reaction ~ Days", sleep, groups="Subject")
    same_predictions(both, sleep["Days"].iloc[:4])
    same_predictions(both, pd.Series({"Days": 3.0, "other": 1.0}, name="case"))
    row = both[0].predict(sleep.iloc[4])  # mixed kinds, which statsmodels refuses
    assert_allclose(row, both[0].predict(sleep.iloc[[4]]))
    assert list(row.index) == [4]


def test_predictions_from_columns_of_exog(fits, plain, sleep):
    row = np.array([1.0, 2.0])
    for exog in (row, [1.0, 2.0], [[1.0, 2.0], [1, 3]], pd.DataFrame([row], ["a"]), pd.Series(row)):
        same_predictions(plain, exog)
    wide = np.array([1.0, 0.0, 2.0])
    for exog in (wide, np.eye(3), pd.DataFrame(np.eye(3), list("abc"))):
        same_predictions(fits, exog, transform=False)
    one = [
        kind(sleep["Reaction"].to_numpy(), sleep["Days"].to_numpy(), sleep["Subject"]).fit()
        for kind in (MixedLM, lme.MixedLM)
    ]
    same_predictions(one, np.array([1.0, 2, 3]))
    models = [fit.model for fit in plain]
    assert_allclose(*(model.predict(np.array([250.0, 10.0]), row) for model in models))
    assert np.ndim(models[0].predict([250.0, 10.0], row)) == 0


def test_predictions_that_cannot_be_made(fits, plain, sleep):
    wrong = "exog has 5 columns; expected 3: Intercept, sex"
    with pytest.raises(DataError, match=wrong):
        fits[0].predict(np.ones((6, 5)))
    with pytest.raises(DataError, match="exog has 3 columns; expected 2: const, x1. Give one row"):
        plain[0].predict([1.0, 2.0, 3.0])
    with pytest.raises(DataError, match=r"Found a dictionary of \['Days'\]; expected an array"):
        plain[0].predict({"Days": [1]})
    with pytest.raises(DataError, match=r"no column 'sex'; expected \['Days', 'sex'\]; found"):
        fits[0].predict(sleep[["Days"]])
    with pytest.raises(DataError, match=r"`Days \+ sex` cannot be evaluated: .*value 'z' does not"):
        fits[0].predict({"Days": [1.0], "sex": ["z"]})


def test_components_as_matrices_beside_a_formula():
    data = load_dataset("pastes")
    data = data.assign(batch=data["batch"].astype(str), cask=data["cask"].astype(str))
    dummies = {g: pd.get_dummies(part["cask"]).to_numpy(float) for g, part in data.groupby("batch")}
    arrays = (data["strength"].to_numpy(), np.ones((60, 1)), data["batch"].to_numpy())
    with pytest.warns(FutureWarning, match="deprecated variance components format"):
        expected = lme.MixedLM(*arrays, exog_vc={"cask": dummies}).fit(gtol=1e-8)
    spec = VCSpec(["cask"], [[["a", "b", "c"]] * 10], [list(dummies.values())])
    with pytest.warns(FutureWarning, match="deprecated variance components format") as caught:
        model = MixedLM.from_formula(
            "strength ~ 1", data, groups="batch", exog_vc={"cask": dummies}
        )
    assert caught[0].filename == __file__
    for found in (
        model.fit(),
        MixedLM.from_formula("strength ~ 1", data, groups="batch", exog_vc=spec).fit(),
    ):
        assert list(found.params.index) == ["Intercept", "cask Var"]
        assert_allclose(found.params, expected.params, rtol=1e-4)
        assert_allclose(found.llf, expected.llf, rtol=1e-8)
    flat = MixedLM.from_formula("strength ~ 1", data, groups="batch", exog_re=np.ones(60)).fit()
    best = lmm("strength ~ 1 + (1 | batch)", data)
    assert_allclose(-2 * flat.llf, best.deviance)
    with pytest.raises(ValueError, match="Found exog_vc beside re_formula or vc_formula"):
        MixedLM.from_formula(
            "strength ~ 1", data, groups="batch", re_formula="1", exog_vc={"cask": dummies}
        )


@pytest.mark.parametrize("re_formula", ["0", "~0", "-1", None])
def test_one_group_without_an_intercept_of_its_own(re_formula):
    data = load_dataset("penicillin")
    components = {"plate": "0 + C(plate)", "sample": "0 + C(sample)"}
    arguments = {"re_formula": re_formula, "vc_formula": components, "groups": np.ones(144)}
    mine, other = pair("diameter ~ 1", data, **arguments)
    assert (mine.k_re, other.k_re) == (0, 0)
    assert list(mine.params.index) == list(other.params.index)
    assert_allclose(mine.llf, other.llf, rtol=1e-9)
    assert_allclose(mine.params, other.params, rtol=2e-3)
    assert_allclose(mine.random_effects[1.0], other.random_effects[1.0], rtol=2e-3, atol=1e-3)
    best = lmm("diameter ~ 1 + (1 | plate) + (1 | sample)", data)
    assert_allclose(-2 * mine.llf, best.deviance, rtol=1e-12)
    empty = MixedLM(mine.model.endog, mine.model.exog, np.ones(144), np.empty((144, 0)), spec(mine))
    assert_allclose(empty.fit().llf, mine.llf)


def spec(fit) -> VCSpec:
    source = fit.model.exog_vc
    return VCSpec(source.names, source.colnames, source.mats)


def test_an_intercept_of_one_group_is_refused():
    data = load_dataset("penicillin")
    arguments = {"re_formula": "1", "vc_formula": {"plate": "0 + C(plate)"}}
    model = MixedLM.from_formula("diameter ~ 1", data, groups=np.ones(144), **arguments)
    with pytest.raises(DataError, match="one level for 144 rows.*write re_formula='0' and a vc"):
        model.fit()
