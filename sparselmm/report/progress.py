"""A progress bar that measures what matters: the digits of the score still to go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from sparselmm.optimum import Entry

TARGET = 5e-5  # score norm, in standard errors, at which the bar is full: the default tolerance


@contextmanager
def progress_bar(show: bool) -> Iterator[Callable[[Entry], None]]:
    """A function to be called with every evaluation's log entry; does nothing unless `show`.

    The bar runs from log10 of the first score norm down to that of `TARGET`.

    Raises
    ------
    ImportError
        When tqdm is not installed.
    """
    if not show:
        yield _ignore
        return
    bar = _Bar(_tqdm())
    try:
        yield bar.report
        bar.fill()
    finally:
        bar.close()


def _ignore(entry: Entry) -> None:
    del entry


def _tqdm() -> type:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError(
            "progress=True draws its bar with tqdm, which is not installed; "
            "`pip install tqdm`, or leave progress=False."
        ) from None
    return tqdm


class _Bar:
    """The bar and the score norm it began with."""

    def __init__(self, tqdm: type) -> None:
        self.tqdm, self.bar, self.first = tqdm, None, np.nan

    def report(self, entry: Entry) -> None:
        """Move the bar to an evaluation."""
        if not entry.score_norm > 0.0:
            return
        if self.bar is None:
            self.first = max(entry.score_norm, 10.0 * TARGET)
            layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"
            total = round(np.log10(self.first / TARGET), 2)
            self.bar = self.tqdm(total=total, desc="fitting", bar_format=layout)
        done = float(np.clip(np.log10(self.first / entry.score_norm), 0.0, self.bar.total))
        self.bar.n = max(self.bar.n, round(done, 2))
        self.bar.set_postfix_str(f"deviance {entry.deviance:.8g}, score {entry.score_norm:.0e} se")

    def fill(self) -> None:
        """Show that the optimiser has ended."""
        if self.bar is not None:
            self.bar.n = self.bar.total

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
