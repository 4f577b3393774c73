"""The designs of all reference fits: rows, columns, terms and levels as lme4 has them."""

import numpy as np
import pandas as pd
import pytest

from sparselmm.design import build_design
from tests.values import case_id, cases, frame

CASES = [case for case in cases() if not case["reml"]]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_rows_columns_terms_and_levels(case):
    data = frame(case)
    spec, design = build_design(
        case["formula"], data, weights=case.get("weights"), offset=case.get("offset")
    )
    assert design.n == case["n"]
    dropped = len(case.get("dropped_columns") or [])
    assert design.X.shape[1] == case["p"] + dropped == len(spec.column_names)
    if not dropped:
        np.testing.assert_allclose(design.X[:5], np.array(case["X_first_rows"]))
        np.testing.assert_allclose(design.X.sum(axis=0), case["X_colsums"])

    assert [set(term.grouping.split(":")) for term in spec.terms] == [
        set(term["factor"].split(".")[0].split(":")) for term in case["terms"]
    ]
    for term, expected, ranef in zip(spec.terms, case["terms"], case["ranef"], strict=True):
        assert design.factors[term.factor].n_levels == expected["n_levels"]
        assert len(term.columns) == len(expected["terms"])
        ours, theirs = list(spec.levels[term.factor][:5]), ranef["levels"]
        if ":" in term.grouping:
            assert len(set(spec.levels[term.factor])) == expected["n_levels"]
        else:
            assert ours == theirs


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_new_rows_of_the_reference_are_encoded(case):
    spec, design = build_design(case["formula"], frame(case), case.get("weights"))
    new = pd.DataFrame(case["predict"]["newdata"])
    encoded = spec.encode(new)
    assert encoded.X.shape == (len(new), design.X.shape[1])
    assert not encoded.missing.any()
    assert np.isfinite(encoded.X).all()
    for codes, factor in zip(encoded.codes, design.factors, strict=True):
        assert codes.max() < factor.n_levels
        assert (codes >= 0).any()
