"""Models from formulas: `MixedLM.from_formula` and `mixedlm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sparselmm.compat.statsmodels.construct import caller_variables, formula_arguments
from sparselmm.compat.statsmodels.describe import with_matrices

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.model import MixedLM


def from_formula(
    cls: type[MixedLM],
    formula: str,
    data: Any,
    re_formula: str | None = None,
    vc_formula: Mapping[str, str] | None = None,
    subset: Any = None,
    use_sparse: bool = False,
    missing: str = "none",
    *args: Any,
    **kwargs: Any,
) -> MixedLM:
    """A model from formulas and a table.

    Parameters
    ----------
    formula : str
        ``"y ~ x"``: response and fixed effects.
    data : DataFrame
        Or anything with columns: a dictionary, a polars frame.
    re_formula : str, optional
        Columns whose coefficients vary, correlated, between groups: ``"~x"`` is lme4's
        ``(x | groups)``. An intercept when neither this nor `vc_formula` is given.
    vc_formula : dict of str to str, optional
        Variance components, each evaluated within the groups: ``{"h": "0 + C(h)"}`` is
        ``(1 | groups:h)``, and ``(1 | h)`` when there is one group; ``{"x": "0 + x"}`` a slope with
        a variance of its own.
    subset : array_like, optional
        Booleans, or labels of the index, of the rows to use.
    use_sparse : bool
        Give the matrices of `exog_vc` as sparse arrays when they are looked at; the fit never
        makes them.
    missing : {"none", "drop", "raise"}
    groups : str or array_like
        Column of the data, or labels.
    eval_env : int or dict, optional
        Where formulas find names that are no columns: frames above the caller, or a dictionary.
    """
    if args:
        raise TypeError("from_formula takes arguments after `missing` by name, such as groups=.")
    groups = kwargs.pop("groups", None)
    if groups is None:
        raise AttributeError(
            "'groups' is a required keyword argument in MixedLM.from_formula: a column name, or labels."
        )
    if kwargs.pop("drop_cols", None) is not None:
        raise ValueError(
            "Found drop_cols; expected a formula of the columns to keep. Leave the terms out of it, or subtract them: "
            "'y ~ x * z - x:z'."
        )
    env = caller_variables(kwargs.pop("eval_env", None), 2 + int(kwargs.pop("_depth", 0)))
    given = {name: kwargs.pop(name, None) for name in ("exog_re", "exog_vc")}
    by_formula = re_formula is not None or vc_formula is not None
    for name, matrix in given.items():
        if matrix is not None and by_formula:
            raise ValueError(
                f"Found {name} beside re_formula or vc_formula; expected matrices or formulas for the "
                "random effects, not both. "
                f"Leave {name} out, or write its part as a formula."
            )
    arguments, described = formula_arguments(
        formula,
        data,
        groups,
        re_formula,
        vc_formula,
        subset=subset,
        use_sparse=use_sparse,
        missing=missing,
        env=env,
    )
    if re_formula is None and vc_formula is None and any(v is not None for v in given.values()):
        arguments = with_matrices(arguments, described, given["exog_re"], given["exog_vc"])
    return cls(**arguments, formula=formula, _described=described, **kwargs)


def mixedlm(
    formula: str,
    data: Any,
    re_formula: str | None = None,
    vc_formula: Mapping[str, str] | None = None,
    subset: Any = None,
    use_sparse: bool = False,
    missing: str = "none",
    **kwargs: Any,
) -> MixedLM:
    """A `MixedLM` from formulas; the arguments are those of `MixedLM.from_formula`.

    Examples
    --------
    >>> import sparselmm as slm
    >>> model = slm.mixedlm("Weight ~ Time", slm.load_dataset("dietox"), groups="Pig")
    >>> print(round(model.fit().scale, 4))
    11.3669
    """
    from sparselmm.compat.statsmodels.model import MixedLM

    return MixedLM.from_formula(
        formula, data, re_formula, vc_formula, subset, use_sparse, missing, _depth=1, **kwargs
    )
