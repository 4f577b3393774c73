"""Which path holds the Schur complement: predicted operations and memory of each, the cheapest that fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparselmm.errors import MemoryRefusedError, PathError
from sparselmm.gram import Gram
from sparselmm.machine import available_memory
from sparselmm.systems.base import Store, System
from sparselmm.systems.blocks import component_labels, make_layout
from sparselmm.systems.crossed import make_crossed
from sparselmm.systems.grouped import GroupedStore
from sparselmm.systems.leading import Leading, make_leading

PATHS = ("grouped", "crossed", "sparse")
RATES = {"grouped": 1e9, "crossed": 2e10, "sparse": 4e9}  # operations a second, orders of magnitude
SPARSE_OVERHEAD = (
    0.01  # seconds per evaluation that the sparse path spends outside of its arithmetic
)
DENSE_ENOUGH = 0.2  # share of entries of S above which no order keeps it sparse
QUICK = 0.05  # seconds per evaluation below which nothing else is looked at


@dataclass(frozen=True, slots=True)
class PathCost:
    """What one path would take.

    Attributes
    ----------
    name : str
    flops : float
        Multiplications and additions of one evaluation of value and score; NaN where not looked at.
    nbytes : float
        Memory at the peak of an evaluation, beyond the cross-products.
    note : str
    """

    name: str
    flops: float
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
                else f"{_count(cost.flops):>9} operations, {_size(cost.nbytes):>9}"
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
    compared = _compare(lead, path)
    names = (
        [path] if path != "auto" else [c.name for c in compared.values() if not np.isnan(c.flops)]
    )
    memory = available_memory()
    affordable = [name for name in names if compared[name].nbytes <= memory]
    if not affordable:
        raise MemoryRefusedError(_refusal([compared[name] for name in names], memory))
    best = min(affordable, key=lambda name: compared[name].seconds)
    return Choice(System(lead, _make_store(best, lead)), tuple(compared.values()))


def _compare(lead: Leading, path: str) -> dict[str, PathCost]:
    """Costs of the paths worth a look."""
    costs = {"grouped": _grouped_cost(lead), "crossed": _crossed_cost(lead)}
    quick = not lead.n_S or min(cost.seconds for cost in costs.values()) < QUICK
    if path == "sparse" or (path == "auto" and not quick):
        costs["sparse"] = _sparse_cost(lead, required=path == "sparse")
    else:
        costs["sparse"] = PathCost("sparse", np.nan, np.nan, "not looked at: the others are quick")
    return costs


def _pair_updates(lead: Leading) -> float:
    """Operations that gather S, and again its inverse, over pairs of partners."""
    degrees = np.diff(lead.indptr).astype(float)
    return float((degrees * (degrees + 1)).sum()) * lead.D.shape[1]


def _level_updates(lead: Leading) -> float:
    """Operations on the blocks of the leading factor."""
    levels, s = lead.D.shape[:2]
    return 4.0 * levels * s**3 + 20.0 * levels * s


def _grouped_cost(lead: Leading) -> PathCost:
    if not lead.n_S:
        return PathCost(
            "grouped", _level_updates(lead), 8.0 * lead.D.size, "one factor: nothing is left"
        )
    layout = make_layout(lead, component_labels(lead))
    flops = layout.flops + 2.0 * _pair_updates(lead) + _level_updates(lead)
    largest = int(layout.order.max())
    note = f"{len(layout.order):,} block{'s' * (len(layout.order) > 1)}, the largest of order {largest:,}"
    return PathCost("grouped", flops, 16.0 * layout.length, note)


def _crossed_cost(lead: Leading) -> PathCost:
    if not lead.n_S:
        return PathCost("crossed", np.nan, np.nan, "nothing to cross")
    n = float(lead.n_S)
    flops = n**3 + 2.0 * _pair_updates(lead) + _level_updates(lead)
    return PathCost("crossed", flops, 16.0 * n * n, f"dense of order {lead.n_S:,}")


def _sparse_cost(lead: Leading, *, required: bool) -> PathCost:
    from sparselmm.systems import sparse

    if not required and not sparse.available():
        return PathCost("sparse", np.nan, np.nan, "needs CHOLMOD: pip install 'sparselmm[cholmod]'")
    if not required:
        share = sparse.estimate_entries(lead) / (0.5 * float(lead.n_S) ** 2)
        if share > DENSE_ENOUGH:
            return PathCost("sparse", np.nan, np.nan, f"S is {share:.0%} full: it would fill in")
    analysis = sparse.plan_sparse(lead).analysis
    flops = analysis.factor_flops + analysis.inverse_flops + 2.0 * _pair_updates(lead)
    note = f"{analysis.factor_entries:,} entries in the factor ({analysis.ordering})"
    return PathCost("sparse", flops + _level_updates(lead), float(analysis.bytes), note)


def _make_store(name: str, lead: Leading) -> Store:
    if name == "grouped":
        labels = component_labels(lead) if lead.n_S else np.empty(0, np.int64)
        return GroupedStore(lead, make_layout(lead, labels))
    if name == "crossed":
        return make_crossed(lead)
    from sparselmm.systems import sparse

    return sparse.make_sparse(lead)


def _refusal(costs: list[PathCost], memory: float) -> str:
    needs = "; ".join(f"path {c.name!r} needs {_size(c.nbytes)}" for c in costs)
    return (
        f"Found {_size(memory)} of free memory; {needs}. Drop a random-effects term, group rare levels, or fit "
        "on a machine with more memory."
    )


def _count(value: float) -> str:
    return f"{value:.1e}"


def _size(nbytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024 or unit == "GiB":
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1024
    return ""
