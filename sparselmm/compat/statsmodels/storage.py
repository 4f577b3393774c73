"""Results in files, and without the rows they came from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparselmm.compat.statsmodels import effects

if TYPE_CHECKING:
    from sparselmm.compat.statsmodels.results import MixedLMResults

BEFORE_REMOVAL = ("llf", "normalized_cov_params", "df_resid", "nobs", "group_sizes")


def remove_data(self: MixedLMResults) -> None:
    """Drop what grows with the number of rows; tables, tests and predictions for new data stay."""
    for name in BEFORE_REMOVAL:
        getattr(self, name)
    model = self.model
    self._at = None
    for name in ("_modes", "_fitted", "random_effects", "random_effects_cov"):
        self.__dict__.pop(name, None)
    for name in ("engine", "diagonal_engine", "components", "row_indices"):
        model.__dict__.pop(name, None)
    effects.forget_rows(model)


def save(self: MixedLMResults, fname: Any, remove_data: bool = False) -> None:
    """Pickle to a file.

    Parameters
    ----------
    fname : str or file
    remove_data : bool
        Call `remove_data` before.
    """
    if remove_data:
        self.remove_data()
    if hasattr(fname, "write"):
        pickle.dump(self, fname)
    else:
        Path(fname).write_bytes(pickle.dumps(self))


def load(cls: type[MixedLMResults], fname: Any) -> MixedLMResults:
    """Read what `save` wrote; only from files you trust."""
    del cls
    if hasattr(fname, "read"):
        return pickle.load(fname)
    return pickle.loads(Path(fname).read_bytes())


def state(self: MixedLMResults) -> dict[str, Any]:
    """With standard errors, without random effects (made again when asked for)."""
    _ = self._covariance
    kept = {**self.__dict__, "_at": None}
    for name in ("random_effects", "random_effects_cov", "_information"):
        kept.pop(name, None)
    return kept
