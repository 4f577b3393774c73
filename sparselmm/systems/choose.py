"""Which path holds the Schur complement: predicted operations and memory of each, the cheapest that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sparselmm.errors import MemoryRefusedError, PathError
from sparselmm.gram import Gram
from sparselmm.machine import available_memory, size_text
from sparselmm.systems.base import Store, System
from sparselmm.systems.blocks import component_labels, make_layout
from sparselmm.systems.elimination import plan_elimination
from sparselmm.systems.grouped import GroupedStore
from sparselmm.systems.leading import Leading, make_leading

PATHS = ("grouped", "crossed", "sparse")
RATES = {
    "grouped": 1e9,
    "crossed": 2e10,
    "sparse": 1e10,
}  # operations a second, orders of magnitude
SPARSE_OVERHEAD = (
    0.01  # seconds per evaluation that the sparse path spends outside of its arithmetic
)
DENSE_ENOUGH = 0.2  # share of entries of S above which no order keeps it sparse
INSTANT = 0.01  # seconds per evaluation below which no order of the columns is looked for
PER_ENTRY = (
    200.0  # operations that cost as much as to write and read an entry of a square, mostly zeros
)
QUICK = 0.05  # seconds per evaluation below which nothing else is looked at


@dataclass(frozen=True, slots=True)
class PathCost:
    """What one path would take.

    Attributes
    ----------
    name : str
    flops : float
        Multiplications and additions of one evaluation of value and score; NaN where not looked at.
    solve : float
        The same of a solve with the factor, per right-hand side.
    nbytes : float
        Memory at the peak of an evaluation, beyond the cross-products.
    note : str
    """

    name: str
    flops: float
    solve: float
    nbytes: float
    note: str

    @property
    def seconds(self) -> float:
        """Rough time of one evaluation."""
        overhead = SPARSE_OVERHEAD if self.name == "sparse" else 0.0
        return self.flops / RATES[self.name] + overhead


@dataclass(frozen=True, slots=True)
class Choice:
    """The path taken and what was compared.

    Attributes
    ----------
    system : System
    costs : tuple of PathCost
    """

    system: System
    costs: tuple[PathCost, ...]

    @property
    def name(self) -> str:
        """The path taken."""
        return self.system.store.name

    @property
    def cost(self) -> PathCost:
        """What the path taken is predicted to cost."""
        return next(cost for cost in self.costs if cost.name == self.name)

    def __str__(self) -> str:
        lines = []
        for cost in self.costs:
            mark = "*" if cost.name == self.name else " "
            numbers = (
                ""
                if np.isnan(cost.flops)
                else f"{_count(cost.flops):>9} operations, {size_text(cost.nbytes):>9}"
            )
            lines.append(f" {mark} {cost.name:<8}{numbers:<34} {cost.note}".rstrip())
        return "\n".join(lines)


def choose(gram: Gram, path: str = "auto") -> Choice:
    """Set the leading factor apart and choose how to hold the rest.

    Parameters
    ----------
    gram : Gram
    path : str
        ``"auto"``, ``"grouped"``, ``"crossed"`` or ``"sparse"``.

    Raises
    ------
    PathError
        Unknown path, or ``"sparse"`` without CHOLMOD.
    MemoryRefusedError
        The predicted memory exceeds what the machine has.
    """
    if path != "auto" and path not in PATHS:
        raise PathError(f"Found path={path!r}; expected 'auto' or one of {', '.join(PATHS)}.")
    lead = make_leading(gram)
    if not lead.n_S and path != "auto":
        path = "grouped"
    paths = _compare(lead, path)
    looked_at = {name: found for name, found in paths.items() if not np.isnan(found.cost.flops)}
    wanted = looked_at if path == "auto" else {path: paths[path]}
    needs = [found.cost.nbytes for found in wanted.values()]
    memory = available_memory(min(needs), max(needs))
    affordable = [found for found in wanted.values() if found.cost.nbytes <= memory]
    if not affordable:
        raise MemoryRefusedError(_refusal([found.cost for found in wanted.values()], memory))
    best = min(affordable, key=lambda found: found.cost.seconds)
    return Choice(System(lead, best.make()), tuple(found.cost for found in paths.values()))


class _Candidate(NamedTuple):
    """A path's cost, and how to set it up."""

    cost: PathCost
    make: Callable[[], Store]


def _compare(lead: Leading, path: str) -> dict[str, _Candidate]:
    """The paths; those not worth a look have costs of NaN."""
    grouped = _grouped(lead)
    found = {"grouped": grouped, "crossed": _crossed(lead, whole=grouped.cost.seconds < INSTANT)}
    quick = not lead.n_S or min(path.cost.seconds for path in found.values()) < QUICK
    quick = path != "sparse" and (quick or path != "auto")
    found["sparse"] = _sparse(lead, required=path == "sparse", quick=quick)
    return found


def _ruled_out(name: str, reason: str) -> _Candidate:
    def refuse() -> Store:
        raise PathError(f"Found path={name!r}; {reason}. Use path='auto'.")

    return _Candidate(PathCost(name, np.nan, np.nan, np.nan, reason), refuse)


def _pair_updates(lead: Leading) -> float:
    """Operations that gather S, and again its inverse, over pairs of partners."""
    degrees = np.diff(lead.indptr).astype(float)
    return float((degrees * (degrees + 1)).sum()) * lead.D.shape[1]


def _level_updates(lead: Leading) -> float:
    """Operations on the blocks of the leading factor."""
    levels, s = lead.D.shape[:2]
    return 4.0 * levels * s**3 + 20.0 * levels * s


def _leading_solve(lead: Leading) -> float:
    """Operations on the leading factor's share of one right-hand side, down and up."""
    levels, s = lead.D.shape[:2]
    return 4.0 * s * len(lead.cols) + 2.0 * levels * s**2


def _grouped(lead: Leading) -> _Candidate:
    labels = component_labels(lead)
    orders = np.bincount(labels).astype(float)
    flops = float((orders**3).sum()) + 2.0 * _pair_updates(lead) + _level_updates(lead)
    nbytes = 16.0 * float((orders**2).sum()) + 8.0 * lead.D.size
    blocks = f"{len(orders):,} block{'s' * (len(orders) > 1)}"
    largest = int(orders.max(initial=0))
    note = (
        f"{blocks}, the largest of order {largest:,}" if lead.n_S else "one factor: nothing is left"
    )
    solve = _leading_solve(lead) + 2.0 * float((orders**2).sum())
    cost = PathCost("grouped", flops, solve, nbytes, note)
    return _Candidate(cost, lambda: GroupedStore(lead, make_layout(lead, labels)))


def _crossed(lead: Leading, *, whole: bool) -> _Candidate:
    if not lead.n_S:
        return _ruled_out("crossed", "nothing to cross")
    n, note = lead.n_S, f"dense of order {lead.n_S:,}"
    plan = None if whole or n**3 < INSTANT * RATES["crossed"] else plan_elimination(lead)
    arithmetic, solve, nbytes = float(n) ** 3, 2.0 * n**2, 16.0 * n**2
    if plan is not None:
        arithmetic = plan.flops + PER_ENTRY * n**2
        solve = 4.0 * plan.entries
        nbytes += 8.0 * plan.n_head * (plan.widest + plan.tallest)
        note += f", {n - plan.n_head:,} of it filled"
    flops = arithmetic + 2.0 * _pair_updates(lead) + _level_updates(lead)
    cost = PathCost("crossed", flops, _leading_solve(lead) + solve, nbytes, note)

    def make() -> Store:
        from sparselmm.systems.crossed import (
            make_crossed,
        )  # scipy.linalg, which small fits do without

        return make_crossed(lead, plan)

    return _Candidate(cost, make)


def _sparse(lead: Leading, *, required: bool, quick: bool) -> _Candidate:
    if quick:
        return _ruled_out("sparse", "not looked at")
    from sparselmm.systems import sparse

    if not required and not sparse.available():
        return _ruled_out("sparse", "needs CHOLMOD: pip install 'sparselmm[cholmod]'")
    if not required:
        share = sparse.estimate_entries(lead) / (0.5 * float(lead.n_S) ** 2)
        if share > DENSE_ENOUGH:
            return _ruled_out("sparse", f"S is {share:.0%} full: it would fill in")
    plan = sparse.plan_sparse(lead)
    work = plan.analysis.factor_flops + plan.analysis.inverse_flops
    flops = work + 2.0 * _pair_updates(lead) + _level_updates(lead)
    note = f"{plan.analysis.factor_entries:,} entries in the factor ({plan.analysis.ordering})"
    solve = _leading_solve(lead) + 4.0 * plan.analysis.factor_entries
    cost = PathCost("sparse", flops, solve, float(plan.analysis.bytes), note)
    return _Candidate(cost, lambda: sparse.make_sparse(lead, plan))


def _refusal(costs: list[PathCost], memory: float) -> str:
    needs = "; ".join(f"path {c.name!r} needs {size_text(c.nbytes)}" for c in costs)
    return (
        f"Found {size_text(memory)} of free memory; {needs}. Drop a random-effects term, group rare levels, or fit "
        "on a machine with more memory."
    )


def _count(value: float) -> str:
    return f"{value:.1e}"
