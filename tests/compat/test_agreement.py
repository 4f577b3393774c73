"""Agreement with statsmodels: the likelihood at arbitrary parameters, and fits where it converges."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from sparselmm import MixedLM
from sparselmm.compat.statsmodels import MixedLMParams, VCSpec

lme = pytest.importorskip("statsmodels.regression.mixed_linear_model")


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    """60 rows in 6 groups of unequal size with sub-groups, crossed items and predictors."""
    rng = np.random.default_rng(5)
    n = 60
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.normal(size=n),
            "g": rng.choice(list("fbdace"), n, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]),
            "h": rng.choice([3, 1, 2], n),
            "item": rng.choice(["u", "v", "w", "t"], n),
        }
    )
    frame["cat"] = pd.Categorical(rng.choice(list("pq"), n), categories=["q", "p", "never"])
    frame["two words"] = rng.normal(size=n)
    frame["flag"] = rng.random(n) < 0.5
    frame["y"] = rng.normal(size=n) + frame["x"] + frame["h"] + frame["g"].map(ord) / 3
    return frame


ONE = np.ones(60)
FORMULAS = {
    "intercept": {},
    "slope": {"re_formula": "~x"},
    "three": {"re_formula": "~x + z"},
    "factor": {"re_formula": "0 + item"},
    "nested": {"re_formula": "1", "vc_formula": {"h": "0 + C(h)"}},
    "text": {"vc_formula": {"item": "0 + item", "x": "0 + x"}},
    "columns": {"re_formula": "~x", "vc_formula": {"b": "0 + z + x", "a": "~0 + C(h)"}},
    "intercept column": {"vc_formula": {"a": "1", "b": "1 + z"}},
    "product": {"re_formula": "1", "vc_formula": {"h": "0 + C(h)", "hx": "0 + C(h):x"}},
    "two factors": {"re_formula": "1", "vc_formula": {"hi": "0 + C(h):C(item)"}},
    "kinds of factors": {"re_formula": "1", "vc_formula": {"a": "0 + C(h):cat:x:item"}},
    "quoted": {"re_formula": "1", "vc_formula": {"q": '0 + Q("two words")'}},
    "contrasts": {"vc_formula": {"h": "C(h)", "hi": "0 + C(h) + C(item)"}},
    "mixed sum": {"vc_formula": {"h": "0 + C(h) + x"}},
    "transform": {"vc_formula": {"e": "0 + np.exp(x)", "c": "0 + center(z)"}},
    "categorical": {"re_formula": "1", "vc_formula": {"cat": "0 + cat", "flag": "0 + flag"}},
    "crossed": {"groups": ONE, "vc_formula": {"i": "0 + C(item)", "h": "0 + C(h)"}},
    "crossed slopes": {"groups": ONE, "vc_formula": {"i": "0 + item", "ix": "0 + item:x"}},
    "crossed columns": {"groups": ONE, "vc_formula": {"xz": "0 + x + z", "i": "0 + C(item)"}},
    "crossed sum": {"groups": ONE, "vc_formula": {"hi": "0 + C(h) + C(item)"}},
}


def both(model, arguments, data):
    """Our model and statsmodels', at REML."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = MixedLM.from_formula(model, data, **arguments)
        theirs = lme.MixedLM.from_formula(model, data, **arguments)
    return ours, ready(theirs)


def ready(theirs, reml=True):
    """What statsmodels sets in `fit` only."""
    theirs.reml, theirs._freepat, theirs.cov_pen, theirs._cov_sing = reml, None, None, 0
    return theirs


def some_points(model, rng):
    """Parameters away from the boundary, for both packages."""
    for _ in range(2):
        root = rng.normal(size=(model.k_re, model.k_re))
        parts = {
            "fe_params": rng.normal(size=model.k_fe),
            "cov_re": root @ root.T + 0.1 * np.eye(model.k_re),
            "vcomp": rng.uniform(0.1, 2.0, model.k_vc),
        }
        yield MixedLMParams.from_components(**parts), lme.MixedLMParams.from_components(**parts)


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_likelihood_at_arbitrary_parameters(name, reml, data):
    arguments = {"groups": "g", **FORMULAS[name]}
    ours, theirs = both("y ~ x + C(h)", arguments, data)
    ours.reml = theirs.reml = reml
    assert ours.exog_names == theirs.exog_names
    assert ours.data.param_names == theirs.data.param_names
    for mine, other in some_points(ours, np.random.default_rng(1)):
        assert_allclose(ours.loglike(mine), theirs.loglike(other), rtol=1e-11)
        assert_allclose(ours.loglike(mine, False), theirs.loglike(other, False), rtol=1e-11)
        for profile in (True, False):
            slope = theirs.score(other.copy(), profile)
            assert_allclose(ours.score(mine, profile), slope, rtol=1e-8, atol=1e-8)
        fe, _ = ours.get_fe_params(mine.cov_re, mine.vcomp)
        expected, _ = theirs.get_fe_params(other.cov_re, other.vcomp)
        assert_allclose(fe, expected, rtol=1e-8)
        mine.fe_params = other.fe_params = fe
        assert_allclose(ours.hessian(mine)[0], theirs.hessian(other)[0], rtol=2e-5, atol=2e-5)
        scale = theirs.get_scale(fe, other.cov_re, other.vcomp)
        assert_allclose(ours.get_scale(fe, mine.cov_re, mine.vcomp), scale, rtol=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "nested",
        "columns",
        "product",
        "two factors",
        "kinds of factors",
        "quoted",
        "contrasts",
        "categorical",
    ],
)
def test_matrices_of_components(name, data):
    ours, theirs = both("y ~ x", {"groups": "g", **FORMULAS[name]}, data)
    assert ours.exog_vc.names == theirs.exog_vc.names
    for k in range(ours.k_vc):
        for g in range(ours.n_groups):
            mine, other = ours.exog_vc.mats[k][g], theirs.exog_vc.mats[k][g]
            names, expected = ours.exog_vc.colnames[k][g], theirs.exog_vc.colnames[k][g]
            assert [str(text) for text in names] == list(expected)
            assert_allclose(mine, other)


def matrices(shape: str, groups, rng):
    """Per-group matrices: dummies, columns, or as many columns as the group likes."""
    out = []
    for label in np.unique(groups):
        rows = int((groups == label).sum())
        if shape == "dummies":
            out.append(np.eye(3)[rng.integers(0, 3, rows)])
        elif shape == "columns":
            out.append(rng.normal(size=(rows, 2)))
        else:
            out.append(rng.normal(size=(rows, 1 + int(label) % 3)))
    return out


@pytest.mark.parametrize("shape", ["dummies", "columns", "ragged"])
@pytest.mark.parametrize("sparse", [False, True])
def test_components_given_as_matrices(shape, sparse, data):
    from scipy.sparse import csr_array

    rng = np.random.default_rng(2)
    groups = rng.integers(0, 5, len(data))
    dense = matrices(shape, groups, rng)
    mats = [csr_array(mat) for mat in dense] if sparse else dense
    names = [[f"c{j}" for j in range(mat.shape[1])] for mat in dense]
    X = np.column_stack([np.ones(len(data)), data["x"]])
    y = data["y"].to_numpy()
    ours = MixedLM(y, X, groups, exog_re=np.ones(len(y)), exog_vc=VCSpec(["a"], [names], [mats]))
    theirs = ready(
        lme.MixedLM(
            y, X, groups, exog_re=np.ones(len(y)), exog_vc=lme.VCSpec(["a"], [names], [dense])
        )
    )
    for mine, other in some_points(ours, rng):
        assert_allclose(ours.loglike(mine), theirs.loglike(other), rtol=1e-11)
        assert_allclose(ours.score(mine), theirs.score(other.copy()), rtol=1e-8, atol=1e-8)
    effects = ours.fit().random_effects
    assert list(effects[2].index) == ["x_re1", *(f"a[{name}]" for name in names[2])]


def simulated(seed=0, groups=60, size=8):
    """A random slope, and sub-groups within the groups."""
    rng = np.random.default_rng(seed)
    n = groups * size
    g = np.repeat(np.arange(groups), size)
    s = np.tile(np.repeat([0, 1], size // 2), groups)
    x = rng.normal(size=n)
    b = rng.normal(size=(groups, 2)) @ np.array([[1.0, 0.4], [0.0, 0.8]])
    inner = rng.normal(size=2 * groups)[2 * g + s]
    y = 1 + 0.5 * x + b[g, 0] + b[g, 1] * x + inner + rng.normal(size=n)
    return pd.DataFrame({"y": y, "x": x, "g": g, "s": s})


CONVERGING = {
    "intercept": {},
    "slope": {"re_formula": "~x"},
    "nested": {"re_formula": "1", "vc_formula": {"s": "0 + C(s)"}},
    "components": {"vc_formula": {"s": "0 + C(s)", "x": "0 + x"}},
}


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", CONVERGING)
def test_fits_number_by_number(name, reml):
    data = simulated()
    arguments = {"groups": "g", **CONVERGING[name]}
    mine = MixedLM.from_formula("y ~ x", data, **arguments).fit(reml=reml)
    other = lme.MixedLM.from_formula("y ~ x", data, **arguments).fit(reml=reml, gtol=1e-8)
    assert mine.converged
    assert mine.llf >= other.llf - 1e-9
    assert_allclose(mine.llf, other.llf, rtol=1e-8)
    for attribute in (
        "params",
        "bse",
        "fe_params",
        "bse_fe",
        "tvalues",
        "scale",
        "vcomp",
        "cov_re",
    ):
        left, right = np.asarray(getattr(mine, attribute)), np.asarray(getattr(other, attribute))
        assert_allclose(left, right, rtol=5e-4, atol=2e-5, err_msg=attribute)
    assert_allclose(mine.bse_re, other._results.bse_re, rtol=5e-4)
    assert_allclose(mine.conf_int(), other.conf_int(), rtol=5e-4, atol=1e-4)
    assert_allclose(mine.cov_params(), other.cov_params(), rtol=2e-3, atol=1e-5)
    assert_allclose(mine.normalized_cov_params, other.normalized_cov_params, rtol=2e-3, atol=1e-5)
    assert_allclose(mine.resid, other.resid, atol=2e-4)
    assert_allclose([mine.aic, mine.bic], [other.aic, other.bic], rtol=1e-7)
    assert mine.df_resid == other.df_resid
    for label in (0, 17):
        pd.testing.assert_series_equal(
            mine.random_effects[label], other.random_effects[label], atol=2e-4, rtol=1e-3
        )
        if name != "components":
            pd.testing.assert_frame_equal(
                mine.random_effects_cov[label],
                other.random_effects_cov[label],
                atol=2e-4,
                rtol=1e-3,
            )


@pytest.mark.parametrize("name", CONVERGING)
def test_summary_is_the_same_text(name):
    data = simulated(seed=1)
    arguments = {"groups": "g", **CONVERGING[name]}
    mine = MixedLM.from_formula("y ~ x", data, **arguments).fit()
    other = lme.MixedLM.from_formula("y ~ x", data, **arguments).fit(gtol=1e-9)
    assert str(mine.summary()) == str(other.summary())


def test_random_effects_that_statsmodels_gives(data):
    arguments = {"groups": "g", **FORMULAS["product"]}
    ours, theirs = both("y ~ x", arguments, data)
    point = next(some_points(ours, np.random.default_rng(3)))[0]
    mine = ours.fit(start_params=point, do_cg=False)
    _, other = next(some_points(ours, np.random.default_rng(3)))
    other.fe_params = mine.params_object.fe_params
    results = lme.MixedLMResults(theirs, np.asarray(mine.params), np.asarray(mine.cov_params()))
    results.fe_params, results.k_fe, results.k_re = other.fe_params, 2, 1
    results.cov_re, results.vcomp = mine.scale * other.cov_re, mine.scale * other.vcomp
    results.scale = mine.scale
    for label in "abcdef":
        pd.testing.assert_series_equal(
            mine.random_effects[label], results.random_effects[label], rtol=1e-8
        )
        pd.testing.assert_frame_equal(
            mine.random_effects_cov[label], results.random_effects_cov[label], rtol=1e-8, atol=1e-10
        )


FIXED = [
    "y ~ C(h, Treatment(2))",
    "y ~ C(h, Treatment(reference=3)) * z",
    "np.log(y + 20) ~ x",
    "I(y * 2) ~ np.log(x + 10)",
    'y ~ Q("two words") + I(x**2)',
    "y ~ bs(x, df=4)",
    "y ~ cr(x, df=3) - 1",
    "y ~ center(x) * item + standardize(z)",
    "y ~ C(item, Sum) + C(item, Helmert):x",
    "y ~ (x + z + item) ** 2 - x:z",
    "y ~ item / x + flag",
]


@pytest.mark.parametrize("formula", FIXED)
def test_formulas_and_their_predictions(formula, data):
    """The same columns, names and values, for the data and for new rows."""
    ours, theirs = both(formula, {"groups": "g"}, data)
    assert ours.exog_names == theirs.exog_names
    assert ours.endog_names == theirs.endog_names
    assert_allclose(ours.exog, theirs.exog, rtol=1e-12)
    assert_allclose(ours.endog, theirs.endog, rtol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, other = ours.fit(), theirs.fit()
    new = data.iloc[7:12]
    beta = np.asarray(mine.fe_params)
    spec = other.model.data.model_spec
    rows = lme.FormulaManager().get_matrices(spec, new, pandas=True)
    assert_allclose(mine.predict(new), np.asarray(rows) @ np.nan_to_num(beta), rtol=1e-9)


def test_arithmetic_on_the_left_side(data):
    with pytest.raises(ValueError, match=r"`y \+ x` gives 2 columns; .* as in I\(y1 \+ y2\)"):
        MixedLM.from_formula("y + x ~ z", data, groups="g")
    ours, theirs = both("y - 1 ~ x", {"groups": "g"}, data)
    assert_allclose(ours.endog, theirs.endog)
    with pytest.raises(ValueError, match="expected a response and predictors"):
        MixedLM.from_formula("y ~ ", data, groups="g")


def test_products_too_wide_to_list(data, monkeypatch):
    from sparselmm.compat.statsmodels import components

    arguments = {"groups": "g", "vc_formula": {"hi": "0 + C(h):C(item)"}}
    model = MixedLM.from_formula("y ~ x", data, **arguments)
    names, coefficients = model.components[0].columns(1)
    assert (coefficients == -1).any()
    monkeypatch.setattr(components, "WIDEST", 1)
    few, present = model.components[0].columns(1)
    assert few == [n for n, at in zip(names, coefficients, strict=True) if at >= 0]
    assert_allclose(present, coefficients[coefficients >= 0])
