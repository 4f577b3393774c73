"""Parameters by the names that people type: those of the tables, R's, and what stands near them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from sparselmm.errors import InferenceError

SHOWN = 12  # names in a message
NEAR = 0.5  # likeness, of 1, from which on a name is offered


def find_names(
    parm: str | Sequence[str], known: Sequence[str], *, also: Sequence[str] = (), hint: str = ""
) -> list[str]:
    """The parameters asked for, as they are called here.

    Parameters
    ----------
    parm : str or sequence of str
        Names, or what means one of them only: ``"sd_x|g"`` where x varies in the second term on g, called
        ``"sd_x|g.1"``; ``"(Intercept)"``; a correlation the other way round.
    known : sequence of str
        Names to show in a message.
    also : sequence of str
        Further ones that may be asked for.
    hint : str
        What a message ends with.

    Raises
    ------
    InferenceError
        For a name that means none, or several.

    Examples
    --------
    >>> find_names(["sd_x|g", "(Intercept)"], ["sd_Intercept|g", "sd_x|g.1", "Intercept"])
    ['sd_x|g.1', 'Intercept']
    """
    possible = list(dict.fromkeys([*known, *also]))
    chosen = []
    for name in [parm] if isinstance(parm, str) else list(parm):
        meant = [name] if name in possible else _meant(str(name), possible)
        if len(meant) != 1:
            raise InferenceError(_message(name, known, meant or _near(str(name), possible), hint))
        chosen.append(meant[0])
    return list(dict.fromkeys(chosen))


def _meant(name: str, possible: Sequence[str]) -> list[str]:
    """Names that differ in notation only."""
    spellings = _spellings(name)
    return [other for other in possible if _plain(other) in spellings]


def _plain(name: str) -> str:
    """Without blanks, R's brackets around the intercept, and the number of a term on the same factor."""
    squeezed = "".join(name.split()).replace("(Intercept)", "Intercept")
    return re.sub(r"(\|.*)\.\d+$", r"\1", squeezed)


def _spellings(name: str) -> set[str]:
    """A plain name; of a correlation also the other order."""
    plain = _plain(name)
    pair = re.fullmatch(r"cor_(.*)\|(.*)", plain)
    if pair is None:
        return {plain}
    effects, group = pair.groups()
    dots = [i for i, letter in enumerate(effects) if letter == "."]
    turned = {f"cor_{effects[i + 1 :]}.{effects[:i]}|{group}" for i in dots}
    return {plain, *turned}


def _near(name: str, possible: Sequence[str]) -> list[str]:
    return get_close_matches(name, possible, n=3, cutoff=NEAR)


def _message(name: str, known: Sequence[str], near: Sequence[str], hint: str) -> str:
    shown = ", ".join(f"'{n}'" for n in known[:SHOWN])
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    meant = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return f"Found parm={name!r}; expected some of {shown}{more}.{meant}{hint}"
