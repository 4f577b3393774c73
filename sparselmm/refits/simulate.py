"""New responses from a fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparselmm.errors import InferenceError
from sparselmm.fit import Fit
from sparselmm.refits.responses import (
    block_width,
    check_count,
    draw_rows,
    make_generator,
    make_rows,
    normal_source,
    user_shift,
)

if TYPE_CHECKING:
    import pandas as pd

RANDOM = ("new", "conditional")


def simulate(
    fit: Fit, nsim: int = 1, rng: np.random.Generator | int | None = None, random: str = "new"
) -> pd.DataFrame:
    """Responses drawn from the fitted model, for the rows of its data.

    Parameters
    ----------
    nsim : int
        Number of responses.
    rng : numpy.random.Generator or int, optional
        Source of randomness or a seed; fresh entropy if not given.
    random : str
        ``"new"`` draws the random effects anew, ``"conditional"`` keeps them at their conditional modes.

    Returns
    -------
    pandas.DataFrame
        Shape (n, nsim), labelled like the rows of the data used, columns 0 to nsim - 1.

    Raises
    ------
    InferenceError
        For an unknown `random`, and fewer than one response.

    Notes
    -----
    y = offset + X beta + Z b + eps with b ~ N(0, sigma² T T') by levels and eps ~ N(0, sigma² W^-1).

    Examples
    --------
    >>> import sparselmm as slm
    >>> fit = slm.lmm("Reaction ~ Days + (Days | Subject)", slm.load_dataset("sleepstudy"))
    >>> responses = fit.simulate(3, rng=1)
    >>> responses.shape
    (180, 3)
    >>> fit.refit(responses[0]).params.round(1)
    Intercept    ...
    Days          ...
    Name: params, dtype: float64
    """
    import pandas as pd

    if random not in RANDOM:
        raise InferenceError(f"Found random={random!r}; expected 'new' or 'conditional'.")
    check_count(nsim)
    rng = make_generator(rng)
    rows = make_rows(fit)
    source, shift = normal_source(fit, rows, random), user_shift(fit)[:, None]
    width = block_width(fit.n)
    blocks = []
    for start in range(0, nsim, width):
        own = draw_rows(rows, source, [rng] * min(width, nsim - start))
        blocks.append(own + shift)
    index = pd.RangeIndex(fit.n) if fit.spec.index is None else fit.spec.index
    return pd.DataFrame(np.concatenate(blocks, axis=1), index=index)
