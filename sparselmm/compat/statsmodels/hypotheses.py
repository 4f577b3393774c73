"""Wald tests: statsmodels' own, on our estimates. They need statsmodels; the rest of the interface does not.

A matrix may have a column for every parameter or for every fixed effect; a string names parameters as in `params`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from sparselmm._types import Array
from sparselmm.errors import InferenceError

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.results import MixedLMResults

NEEDS = (
    "Tests of hypotheses through MixedLM results give statsmodels' own result objects and need statsmodels "
    "(pip install statsmodels). Without it fit the model with sparselmm.lmm and call its t_test or wald_test."
)


def t_test(self: MixedLMResults, r_matrix: Any, use_t: bool | None = None) -> Any:
    """Tests of linear combinations of the parameters, one by one.

    Parameters
    ----------
    r_matrix : array_like, str, list of str or dict
        Rows over the fixed effects, or hypotheses such as ``"x = 2"``.
    use_t : bool, optional
        t rather than normal distribution.

    Returns
    -------
    statsmodels' ContrastResults
    """
    if not _is_text(r_matrix):
        width = np.atleast_2d(_coefficients(r_matrix)).shape[1]
        if width != self.k_fe:
            raise ValueError(
                f"r_matrix for t-test should have {self.k_fe} columns, one for each fixed effect; found {width}. "
                "Name covariance parameters in a string hypothesis instead."
            )
    return _delegate(self, r_matrix).t_test(_widened(self, r_matrix), use_t=use_t)


def wald_test(
    self: MixedLMResults,
    r_matrix: Any,
    cov_p: Any = None,
    invcov: Any = None,
    use_f: bool | None = None,
    df_constraints: int | None = None,
    scalar: bool = True,
) -> Any:
    """Joint test that all combinations are zero (or have the values of the hypotheses).

    Parameters
    ----------
    r_matrix : array_like, str or list of str
    cov_p : array_like, optional
        Covariance matrix of all parameters, instead of `cov_params`.
    invcov : array_like, optional
        Inverse of the covariance matrix of the combinations, instead of what `cov_p` gives.
    use_f : bool, optional
        F rather than chi-square distribution.
    df_constraints : int, optional
    scalar : bool
        Give the statistic as a number.
    """
    return _delegate(self, r_matrix).wald_test(
        _widened(self, r_matrix),
        cov_p=cov_p,
        invcov=invcov,
        use_f=use_f,
        df_constraints=df_constraints,
        scalar=scalar,
    )


def f_test(self: MixedLMResults, r_matrix: Any, cov_p: Any = None, invcov: Any = None) -> Any:
    """`wald_test` with the F distribution."""
    return _delegate(self, r_matrix).f_test(_widened(self, r_matrix), cov_p=cov_p, invcov=invcov)


def wald_test_terms(
    self: MixedLMResults,
    skip_single: bool = False,
    extra_constraints: Any = None,
    combine_terms: Any = None,
    scalar: bool = True,
) -> Any:
    """A Wald test for every term of the formula.

    Parameters
    ----------
    skip_single : bool
        Leave out terms of one column.
    extra_constraints : list, optional
    combine_terms : list of str, optional
        Terms whose names contain one of these are tested together too.
    scalar : bool
    """
    return _delegate(self, None).wald_test_terms(
        skip_single=skip_single,
        extra_constraints=extra_constraints,
        combine_terms=combine_terms,
        scalar=scalar,
    )


def t_test_pairwise(
    self: MixedLMResults,
    term_name: str,
    method: str = "hs",
    alpha: float = 0.05,
    factor_labels: Any = None,
) -> Any:
    """Pairwise comparisons of the levels of a factor, adjusted for their number.

    Parameters
    ----------
    term_name : str
        A term of the formula, ``"C(a)"``.
    method : str
        Adjustment, as in statsmodels' ``multipletests``.
    alpha : float
    factor_labels : list of str, optional
    """
    return _delegate(self, None).t_test_pairwise(
        term_name, method=method, alpha=alpha, factor_labels=factor_labels
    )


def _delegate(results: MixedLMResults, r_matrix: Any) -> Any:
    """statsmodels' results object over our parameters."""
    try:
        from statsmodels.base.model import LikelihoodModelResults
    except ImportError:
        raise ImportError(NEEDS) from None
    data = results.model.data
    described = SimpleNamespace(
        cov_names=data.param_names,
        xnames=data.xnames,
        param_names=data.param_names,
        model_spec=data.model_spec,
        design_info=data.design_info,
    )
    model = SimpleNamespace(data=described, exog_names=data.xnames, endog_names=data.ynames)
    V = results._covariance
    own = LikelihoodModelResults(
        model,
        np.nan_to_num(np.asarray(results.params)),
        normalized_cov_params=_usable(results, V, r_matrix),
    )
    own.df_resid = results.df_resid
    own.use_t = results.use_t
    return own


def _usable(results: MixedLMResults, V: Array, r_matrix: Any) -> Array:
    """V with zeros for parameters without a variance, once no hypothesis is about them.

    Raises
    ------
    InferenceError
    """
    unknown = np.isnan(np.diag(V))
    if not unknown.any():
        return V
    names = results.model.data.param_names
    if _is_text(r_matrix):
        texts = [r_matrix] if isinstance(r_matrix, str) else list(r_matrix)
        asked = [
            n for n, bad in zip(names, unknown, strict=True) if bad and any(n in t for t in texts)
        ]
    else:
        used = _touched(r_matrix, len(names))
        asked = [n for n, bad in zip(names, unknown & used, strict=True) if bad]
    if asked:
        raise InferenceError(
            f"'{asked[0]}' has no standard error: its term is singular, or its column depends on others. Test "
            "hypotheses about the other parameters; compare models by their likelihoods for this one."
        )
    return np.where(unknown[:, None] | unknown[None, :], 0.0, V)


def _touched(r_matrix: Any, k: int) -> Array:
    used = np.zeros(k, dtype=bool)
    if r_matrix is not None:
        R = np.atleast_2d(_coefficients(r_matrix))
        used[: R.shape[1]] = (R != 0.0).any(axis=0)
    return used


def _widened(results: MixedLMResults, r_matrix: Any) -> Any:
    """Columns of zeros for the covariance parameters where a matrix has only fixed effects."""
    if _is_text(r_matrix):
        return r_matrix
    R = np.atleast_2d(_coefficients(r_matrix))
    k = len(results.model.data.param_names)
    if R.shape[1] not in (results.k_fe, k):
        raise ValueError(
            f"Found a hypothesis matrix with {R.shape[1]} columns; expected {results.k_fe} (fixed effects) "
            f"or {k} (all parameters)."
        )
    wide = np.hstack([R, np.zeros((len(R), k - R.shape[1]))])
    return (wide, np.asarray(r_matrix[1])) if isinstance(r_matrix, tuple) else wide


def _coefficients(r_matrix: Any) -> Array:
    return np.asarray(r_matrix[0] if isinstance(r_matrix, tuple) else r_matrix, dtype=float)


def _is_text(r_matrix: Any) -> bool:
    if isinstance(r_matrix, (str, Mapping)):
        return True
    return isinstance(r_matrix, (list, tuple)) and bool(r_matrix) and isinstance(r_matrix[0], str)
