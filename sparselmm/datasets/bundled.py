"""The data sets that travel with the package."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sparselmm.errors import DataError

__all__ = ["load_dataset"]

_FOLDER = Path(__file__).parent / "data"

_FACTORS: dict[str, tuple[str, ...]] = {
    "cake": ("replicate", "recipe", "temperature"),
    "dietox": ("Pig", "Evit", "Cu", "Litter"),
    "dyestuff": ("Batch",),
    "dyestuff2": ("Batch",),
    "ergostool": ("Type", "Subject"),
    "insteval": ("s", "d", "dept", "studage", "lectage"),
    "machines": ("Worker", "Machine"),
    "oxide": ("Source", "Lot", "Wafer", "Site"),
    "pastes": ("batch", "cask", "sample"),
    "penicillin": ("plate", "sample"),
    "sleepstudy": ("Subject",),
}

# Levels whose order in the source is neither numeric nor alphabetic.
_LISTED = {("insteval", "dept"): (15, 5, 10, 12, 6, 7, 4, 8, 9, 14, 1, 3, 11, 2)}


def load_dataset(name: str) -> pd.DataFrame:
    """One of the bundled data sets, its factors as categorical columns.

    Parameters
    ----------
    name : str
        One of the names below.

    Returns
    -------
    pandas.DataFrame
        A new frame at each call. Categories are strings, in the level order of the source
        (numeric or alphabetic; ``dept`` of insteval in its own), so that the first one is the base
        of treatment contrasts.

    Raises
    ------
    DataError
        If there is no data set of that name.

    Notes
    -----
    ==========  ======  ===========  ===========================================================
    name          rows  R package    first published in
    ==========  ======  ===========  ===========================================================
    cake           270  lme4         Cook (1938), Chocolate cake: I. Optimum baking temperature,
                                     master's thesis, Iowa State College. Temperature unordered
    dietox         861  geepack      Lauridsen, Hojsgaard & Sorensen (1999), Journal of Animal
                                     Science 77, 906-916
    dyestuff        30  lme4         Davies & Goldsmith, eds. (1972), Statistical Methods in
                                     Research and Production, 4th ed., section 6.4
    dyestuff2       30  lme4         Box & Tiao (1973), Bayesian Inference in Statistical
                                     Analysis, table 5.1.4 (simulated there)
    ergostool       36  nlme         Wretenberg, Arborelius & Lindberg (1993), Ergonomics 36,
                                     519-535
    insteval     73421  lme4         lecture ratings at ETH Zurich, made anonymous; documented
                                     in lme4. Ages unordered, service as 0/1
    machines        54  nlme         Milliken & Johnson (1992), Analysis of Messy Data, vol. 1
    oxide           72  nlme         Littell, Milliken, Stroup & Wolfinger (1996), SAS System
                                     for Mixed Models
    pastes          60  lme4         Davies & Goldsmith (1972), section 6.5
    penicillin     144  lme4         Davies & Goldsmith (1972), section 6.6
    sleepstudy     180  lme4         Belenky et al. (2003), Journal of Sleep Research 12, 1-12
    ==========  ======  ===========  ===========================================================

    Examples
    --------
    >>> from sparselmm import load_dataset
    >>> load_dataset("sleepstudy").head(2)
       Reaction  Days Subject
    0  249.5600     0     308
    1  258.7047     1     308
    """
    if name not in _FACTORS:
        raise DataError(
            f"There is no data set {name!r}. Use one of: {', '.join(sorted(_FACTORS))}."
        )
    frame = read_exactly(_path(name))
    factors = {c: _categorical(frame[c], _LISTED.get((name, c))) for c in _FACTORS[name]}
    return frame.assign(**factors)


def read_exactly(path: Path) -> pd.DataFrame:
    """A csv file whose numbers are correctly rounded (pandas' default since 3.1)."""
    by_default = tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1)
    return pd.read_csv(path, float_precision=None if by_default else "round_trip")


def _path(name: str) -> Path:
    """The csv file of a data set, compressed or not."""
    plain = _FOLDER / f"{name}.csv"
    return plain if plain.exists() else _FOLDER / f"{name}.csv.gz"


def _categorical(values: pd.Series, levels: tuple[int, ...] | None) -> pd.Categorical:
    """Values as a categorical with string categories; without levels in sorted order."""
    coded = pd.Categorical(values, categories=levels)
    return coded.rename_categories([str(level) for level in coded.categories])
