"""Parameters are found by the names of the tables, and by those of R."""

from __future__ import annotations

import pytest

import sparselmm as slm
from sparselmm.errors import InferenceError
from sparselmm.inference.hypotheses import parse_hypotheses
from sparselmm.inference.names import find_names

KNOWN = ["sd_Intercept|g", "sd_x|g.1", "cor_a.b.c|h", "sigma", "Intercept", "x"]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("sd_x|g.1", "sd_x|g.1"),
        ("sd_x|g", "sd_x|g.1"),
        ("sd_x | g", "sd_x|g.1"),
        ("sd_(Intercept)|g", "sd_Intercept|g"),
        ("(Intercept)", "Intercept"),
        ("cor_b.c.a|h", "cor_a.b.c|h"),
        ("cor_c.a.b|h", "cor_a.b.c|h"),
    ],
)
def test_one_parameter_by_its_spellings(asked, meant):
    assert find_names(asked, KNOWN) == [meant]


def test_several_are_not_guessed():
    known = ["sd_x|g.1", "sd_x|g.2"]
    with pytest.raises(InferenceError, match=r"Did you mean 'sd_x\|g.1' or 'sd_x\|g.2'\?"):
        find_names("sd_x|g", known)


def test_every_method_finds_what_varcorr_shows(sleepstudy):
    fit = slm.lmm("Reaction ~ Days + (Days || Subject)", sleepstudy)
    for asked in ("sd_Days|Subject", "sd_Days|Subject.1"):
        assert list(fit.conf_int(method="profile", parm=asked).index) == ["sd_Days|Subject.1"]
        own = fit.conf_int(method="bootstrap", parm=asked, nsim=60, rng=1, level=0.8)
        assert list(own.index) == ["sd_Days|Subject.1"]
    with pytest.raises(InferenceError) as raised:
        fit.conf_int(method="profile", parm="sd_Hours|Subject")
    message = str(raised.value)
    assert message.startswith(
        "Found parm='sd_Hours|Subject'; expected some of 'sd_Intercept|Subject', "
    )
    assert "Did you mean 'sd_Days|Subject.1'" in message
    with pytest.raises(InferenceError, match="use method='profile' or 'bootstrap'"):
        fit.conf_int(parm="sd_Days|Subject")


def test_an_unknown_name_lists_coefficients_in_their_order():
    with pytest.raises(InferenceError, match=r"the fixed effects are 'a', 'b', 'longer'\.\n"):
        parse_hypotheses("c = 0", ["a", "b", "longer"])
    assert parse_hypotheses("a:b - a", ["a", "a:b"]).L.tolist() == [[-1.0, 1.0]]
