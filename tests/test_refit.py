"""Refits: the same numbers as a fit from the beginning."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import sparselmm as slm
from sparselmm.errors import InferenceError

FORMULAS = {
    "sleepstudy": "Reaction ~ Days + (Days | Subject)",
    "penicillin": "diameter ~ 1 + (1 | plate) + (1 | sample)",
    "pastes": "strength ~ 1 + (1 | batch/cask)",
    "cake": "angle ~ recipe * temperature + (1 | recipe:replicate)",
}


def agree(a, b, rtol=1e-6):
    assert a.deviance == pytest.approx(b.deviance, abs=1e-7 + 1e-9 * abs(b.deviance))
    np.testing.assert_allclose(a.params, b.params, rtol=rtol, atol=rtol * np.abs(b.params).max())
    np.testing.assert_allclose(a.bse, b.bse, rtol=1e-4)
    np.testing.assert_allclose(a.varcorr["vcov"], b.varcorr["vcov"], rtol=1e-4, atol=1e-5 * b.scale)


@pytest.mark.parametrize("name", FORMULAS)
def test_refit_is_a_new_fit(name, rng):
    data, formula = slm.load_dataset(name), FORMULAS[name]
    response = formula.split(" ~ ")[0]
    fit = slm.lmm(formula, data)
    y = fit.simulate(1, rng)[0]
    anew = slm.lmm(formula, data.assign(**{response: y}))
    again = fit.refit(y)
    agree(again, anew)
    np.testing.assert_allclose(again.resid, anew.resid, atol=1e-4 * anew.sigma)
    assert type(again) is type(fit)
    assert fit.deviance == slm.lmm(formula, data).deviance


def test_a_response_far_away_keeps_its_digits(sleepstudy, rng):
    fit = slm.lmm(FORMULAS["sleepstudy"], sleepstudy)
    y = fit.simulate(1, rng)[0].to_numpy()
    far = 1e8 + 1e4 * sleepstudy["Days"].to_numpy() + np.round(y * 1024.0) / 1024.0
    near = fit.refit(far - 1e8 - 1e4 * sleepstudy["Days"].to_numpy())
    away = fit.refit(far)
    assert away.deviance == pytest.approx(near.deviance, abs=1e-5)
    np.testing.assert_allclose(away.params - near.params, [1e8, 1e4], rtol=1e-12)
    many = fit.refit_many(np.column_stack([far, far]))
    np.testing.assert_allclose(many.deviance, away.deviance, atol=1e-5)
    np.testing.assert_allclose(many.params.iloc[0], away.params, rtol=1e-12)


def test_other_criterion_and_weights(sleepstudy):
    fit = slm.lmm(FORMULAS["sleepstudy"], sleepstudy)
    agree(fit.refit(reml=False), slm.lmm(FORMULAS["sleepstudy"], sleepstudy, reml=False))
    w = 1.0 + sleepstudy["Days"].to_numpy() % 4
    agree(fit.refit(weights=w), slm.lmm(FORMULAS["sleepstudy"], sleepstudy, weights=w))
    y = sleepstudy["Reaction"].to_numpy() ** 0.5
    both = fit.refit(y, weights=w)
    agree(both, slm.lmm("y ~ Days + (Days | Subject)", sleepstudy.assign(y=y), weights=w))
    assert both.refit(fit.fit.design.y, weights=np.ones(180)).deviance == pytest.approx(
        fit.deviance, abs=1e-7
    )


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("name", FORMULAS)
def test_many_are_many_single_ones(name, reml, rng):
    data = slm.load_dataset(name)
    fit = slm.lmm(FORMULAS[name], data, reml=reml)
    Y = fit.simulate(12, rng)
    Y[3] = 2.5 * Y[3] + 100.0
    fits = fit.refit_many(Y)
    assert fits.converged.all()
    for i in Y.columns:
        one = fit.refit(Y[i])
        assert fits.deviance[i] == pytest.approx(one.deviance, abs=1e-7)
        np.testing.assert_allclose(fits.params.loc[i], one.params.dropna(), rtol=1e-6, atol=1e-6)
        wanted = [*one.varcorr["sdcor"]]
        got = dict(zip(_row_names(one), wanted, strict=True))
        for parameter, value in fits.varpar.loc[i].items():
            known = got[parameter]
            scale = 1.0 if parameter.startswith("cor_") else one.sigma
            assert np.isnan(known) or value == pytest.approx(known, abs=2e-4 * scale)


def _row_names(fit):
    rows = fit.varcorr
    for _, row in rows.iterrows():
        if row["grp"] == "Residual":
            yield "sigma"
        elif row["var2"] is None or pd.isna(row["var2"]):
            yield f"sd_{row['var1']}|{row['grp']}"
        else:
            yield f"cor_{row['var1']}.{row['var2']}|{row['grp']}"


def test_with_weights_and_offset(rng):
    data = slm.load_dataset("sleepstudy").assign(
        w=lambda d: 1.0 + d["Days"] % 3, o=lambda d: 5.0 * d["Days"]
    )
    fit = slm.lmm("Reaction ~ Days + (Days | Subject)", data, weights="w", offset="o")
    Y = fit.simulate(3, rng)
    fits = fit.refit_many(Y)
    for i in Y.columns:
        anew = slm.lmm("y ~ Days + (Days | Subject)", data.assign(y=Y[i]), weights="w", offset="o")
        assert fits.deviance[i] == pytest.approx(anew.deviance, abs=1e-7)
        np.testing.assert_allclose(fits.params.loc[i], anew.params, rtol=1e-6)
        assert fits.frame.loc[i, "deviance"] == fits.deviance[i]
    np.testing.assert_allclose(fits.theta[0], fit.refit(Y[0]).theta, atol=1e-5)


def test_large_designs(rng):
    data = slm.load_dataset("insteval").head(3000)
    fit = slm.lmm("y ~ 1 + (1 | s) + (1 | d)", data)
    Y = fit.simulate(2, rng)
    fits = fit.refit_many(Y)
    for i in Y.columns:
        assert fits.deviance[i] == pytest.approx(fit.refit(Y[i]).deviance, abs=1e-6)


def test_labels_and_text(sleepstudy):
    fit = slm.lmm(FORMULAS["sleepstudy"], sleepstudy)
    fits = fit.refit_many(
        pd.DataFrame({"a": sleepstudy["Reaction"], "b": 2 * sleepstudy["Reaction"]})
    )
    assert list(fits.params.index) == ["a", "b"]
    assert str(fits) == "2 refits: 0 singular, 0 not converged"
    np.testing.assert_allclose(fits.params.loc["b"], 2 * fit.params, rtol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[:-1], r"Found a response of shape \(179,\); expected \(180,\), one value for"),
        (lambda y: np.where(np.arange(180) == 3, np.nan, y), "Found 1 missing or infinite values"),
        (lambda y: np.full(len(y), 2.0), "Found the constant response 2; expected one that varies"),
    ],
)
def test_refuses_bad_responses(sleepstudy, change, message):
    fit = slm.lmm(FORMULAS["sleepstudy"], sleepstudy)
    y = change(sleepstudy["Reaction"].to_numpy())
    with pytest.raises(InferenceError, match=message):
        fit.refit(y)
    with pytest.raises(InferenceError):
        fit.refit_many(y[:, None])


def test_says_which_rows_are_wanted(sleepstudy):
    holes = sleepstudy.assign(Reaction=sleepstudy["Reaction"].where(sleepstudy["Days"] < 9))
    fit = slm.lmm(FORMULAS["sleepstudy"], holes)
    with pytest.raises(InferenceError, match="Leave out the 18 rows that the fit left out"):
        fit.refit(sleepstudy["Reaction"].to_numpy())


@pytest.mark.parametrize("weights", [np.zeros(180), -np.ones(180), np.ones(3)])
def test_refuses_bad_weights(sleepstudy, weights):
    fit = slm.lmm(FORMULAS["sleepstudy"], sleepstudy)
    with pytest.raises(
        InferenceError, match="Found weights of shape .* expected a positive number"
    ):
        fit.refit(weights=weights)
    with pytest.raises(InferenceError, match="Found no response"):
        fit.refit_many(np.empty((180, 0)))


class TestLabels:
    """A Series finds its rows by their labels."""

    @pytest.fixture
    def data(self):
        data = slm.load_dataset("sleepstudy").set_axis([f"row{i}" for i in range(180)])
        data.loc["row7", "Days"] = np.nan
        return data

    @pytest.fixture
    def fit(self, data):
        return slm.lmm(FORMULAS["sleepstudy"], data)

    @pytest.mark.parametrize("rows", ["used", "all"])
    def test_series_is_aligned(self, data, fit, rows):
        y = np.sqrt(data["Reaction"]).sample(frac=1.0, random_state=1)
        y = y.drop("row7") if rows == "used" else y
        expected = slm.lmm(FORMULAS["sleepstudy"], data.assign(Reaction=np.sqrt(data["Reaction"])))
        assert fit.refit(y).deviance == pytest.approx(expected.deviance, abs=1e-7)
        many = fit.refit_many(y.to_frame("a"))
        assert many.deviance[0] == pytest.approx(expected.deviance, abs=1e-6)

    def test_weights_are_aligned(self, data, fit):
        w = pd.Series(np.linspace(1.0, 2.0, 180), data.index)
        expected = slm.lmm(FORMULAS["sleepstudy"], data, weights=w)
        again = fit.refit(weights=w.sample(frac=1.0, random_state=1))
        assert again.deviance == pytest.approx(expected.deviance, abs=1e-7)

    @pytest.mark.parametrize("name", ["y", "Y", "weights"])
    def test_other_labels(self, data, fit, name):
        values = pd.Series(np.arange(1.0, 180.0))
        call = {
            "y": lambda: fit.refit(values),
            "Y": lambda: fit.refit_many(values.to_frame()),
            "weights": lambda: fit.refit(weights=values),
        }[name]
        with pytest.raises(InferenceError) as caught:
            call()
        assert str(caught.value) == (
            f"Found {name} as a {'DataFrame' if name == 'Y' else 'Series'} with other row labels than "
            f"the data; expected the same labels. Pass {name}.to_numpy() if its rows are in the order "
            "of the data."
        )

    def test_arrays_count_by_position(self, data, fit):
        y = data["Reaction"].drop("row7").to_numpy()
        assert fit.refit(y).deviance == pytest.approx(fit.deviance, abs=1e-7)

    def test_data_without_labels(self, sleepstudy):
        columns = {name: sleepstudy[name].to_numpy() for name in sleepstudy}
        fit = slm.lmm(FORMULAS["sleepstudy"], columns)
        y = sleepstudy["Reaction"].set_axis(range(500, 680))
        assert fit.refit(y).deviance == pytest.approx(fit.deviance, abs=1e-7)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            "Reaction",
            (
                "Found y of type str with values that are no real numbers; expected one number for "
                "each of the 180 rows used."
            ),
        ),
        (
            np.full(180, 1j),
            (
                "Found y of type ndarray with values that are no real numbers; expected one number "
                "for each of the 180 rows used."
            ),
        ),
        (
            np.ma.array(np.arange(180.0), mask=np.arange(180) < 5),
            (
                "Found 5 missing or infinite values in the response; expected finite ones. Fit the "
                "model anew to drop rows."
            ),
        ),
        (
            np.arange(180.0) * 1e150,
            (
                "Found a response with values up to 1.8e+152 in size; expected between 1e-50 and "
                "1e+50, or their squares leave the range of numbers. Change its unit."
            ),
        ),
    ],
    ids=["text", "complex", "masked", "size"],
)
def test_what_is_no_response(sleepstudy, y, message):
    with pytest.raises(InferenceError) as caught:
        slm.lmm(FORMULAS["sleepstudy"], sleepstudy).refit(y)
    assert str(caught.value) == message
