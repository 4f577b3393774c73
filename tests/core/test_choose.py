"""Which path is taken, what is said about it, and when it is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sparselmm import machine
from sparselmm._types import Design
from sparselmm.errors import MemoryRefusedError, PathError
from sparselmm.gram import Gram
from sparselmm.machine import (
    THREAD_LIMITS,
    _cgroup_cores,
    _cgroup_left,
    _held_cores,
    available_memory,
    cores_are_idle,
    usable_cores,
)
from sparselmm.systems import choose as module
from sparselmm.systems.choose import PATHS, choose
from sparselmm.systems.sparse import available
from tests.core.designs import cases, factor, one_term_each

CASES = cases(2)
needs_cholmod = pytest.mark.skipif(not available(), reason="scikit-sparse is not installed")


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """A machine with 64 GB free; tests may set another number."""

    def leave(nbytes: float) -> None:
        monkeypatch.setattr(module, "available_memory", lambda *_: nbytes)

    leave(64e9)
    return leave


def two_factors(first, second) -> Gram:
    factors = (factor(first), factor(second))
    n = len(first)
    design = Design(np.arange(n) % 7.0, np.ones((n, 1)), factors)
    return Gram.from_design(design, one_term_each(factors))


@pytest.fixture(scope="module")
def movers() -> Gram:
    """Persons who move between neighbouring firms: S is one component and sparse."""
    person = np.repeat(np.arange(9_000), 2)
    firm = (person // 3 + np.tile([0, 2], 9_000)) % 3_000
    return two_factors(person, firm)


@pytest.fixture(scope="module")
def filled() -> Gram:
    """Everybody meets anybody: S is full."""
    rng = np.random.default_rng(1)
    return two_factors(np.repeat(np.arange(3_000), 20), rng.integers(0, 1_500, 60_000))


def names(choice) -> list[str]:
    return [cost.name for cost in choice.costs]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("single scalar", "grouped"),
        ("single of order 5", "grouped"),
        ("components inside a group", "grouped"),
        ("crossed", "crossed"),
        ("crossed vector", "crossed"),
    ],
)
def test_small_designs(kind, path):
    choice = choose(CASES[kind].gram)
    assert choice.name == path == choice.system.store.name == choice.cost.name
    assert names(choice) == list(PATHS)


def test_many_nested_groups_are_grouped():
    inside = np.repeat(np.arange(3_000), 2)
    choice = choose(two_factors(inside, inside // 3))
    assert choice.name == "grouped"
    assert "1,000 blocks, the largest of order 1" in str(choice)


def test_a_full_design_is_crossed(filled):
    choice = choose(filled)
    assert choice.name == "crossed"
    assert "dense of order 1,500" in str(choice)
    assert choice.cost.nbytes == 16 * 1_500**2
    assert choice.cost.flops >= 1_500**3


def test_what_is_half_full_is_crossed_with_its_emptiest_columns_first():
    rng = np.random.default_rng(1)
    person = np.repeat(np.arange(3_000), 24)
    own, shared = (
        60 * (person % 15) + rng.integers(0, 60, len(person)),
        rng.integers(900, 1_200, len(person)),
    )
    choice = choose(two_factors(person, np.where(rng.random(len(person)) < 0.5, own, shared)))
    assert choice.name == "crossed"
    plan = choice.system.store.elimination
    core = 1_200 - plan.n_head
    assert f"dense of order 1,200, {core:,} of it filled" in str(choice)
    assert 300 <= core < 600
    assert choice.cost.flops < 0.6 * 1_200**3
    # The square, the inverse's, and the factor of the head.
    assert choice.cost.nbytes == 2 * 8.0 * 1_200**2 + plan.panels().nbytes


@needs_cholmod
def test_what_stays_sparse_is_sparse(movers):
    choice = choose(movers)
    assert choice.name == "sparse"
    assert "entries in the factor" in str(choice)
    assert choice.cost.flops < 1e8


def test_without_cholmod_another_path_is_taken_and_it_is_said(movers, monkeypatch):
    monkeypatch.setitem(sys.modules, "sksparse", None)
    choice = choose(movers)
    assert choice.name in ("grouped", "crossed")
    assert "needs CHOLMOD: pip install 'sparselmm[cholmod]'" in str(choice)
    with pytest.raises(PathError, match="sparselmm\\[cholmod\\]"):
        choose(movers, "sparse")


@needs_cholmod
def test_a_design_that_fills_in_is_not_analysed(filled, monkeypatch):
    monkeypatch.setattr(module, "QUICK", 0.0)
    choice = choose(filled)
    assert choice.name == "crossed"
    assert "full: it would fill in" in str(choice)


@pytest.mark.parametrize("kind", ["crossed", "nested", "components inside a group"])
@pytest.mark.parametrize("path", PATHS)
def test_a_path_can_be_asked_for(kind, path):
    if path == "sparse" and not available():
        pytest.skip("scikit-sparse is not installed")
    choice = choose(CASES[kind].gram, path)
    assert choice.name == path
    assert choice.cost.nbytes > 0.0


@pytest.mark.parametrize("path", PATHS)
def test_a_single_factor_leaves_nothing_to_choose(path):
    assert choose(CASES["single vector"].gram, path).name == "grouped"


@pytest.mark.parametrize("path", ["dense", "", "Sparse", "iterative"])
def test_unknown_paths(path):
    with pytest.raises(PathError) as error:
        choose(CASES["crossed"].gram, path)
    assert repr(path) in str(error.value)
    assert all(name in str(error.value) for name in ("auto", *PATHS))


@pytest.mark.parametrize("path", ["auto", *PATHS])
def test_too_little_memory_is_refused_with_the_numbers(path, memory):
    if path == "sparse" and not available():
        pytest.skip("scikit-sparse is not installed")
    memory(100.0)
    with pytest.raises(MemoryRefusedError) as error:
        choose(CASES["partially crossed"].gram, path)
    text = str(error.value)
    assert "Found 100 B of free memory" in text
    assert all(f"path {name!r} needs" in text for name in PATHS if path == name)
    assert "Drop a random-effects term" in text


def test_refusal_in_units_that_can_be_read(filled, memory):
    memory(3 * 1024.0**2)
    with pytest.raises(MemoryRefusedError, match=r"3 MiB of free.*'crossed' needs 34\.3 MiB"):
        choose(filled)


def test_what_does_not_fit_is_not_taken(memory):
    """The cheapest path is too large, a slower one fits."""
    inside = np.repeat(np.arange(40), 3)
    gram = two_factors(inside, inside // 2)
    free = choose(gram)
    assert free.name == "crossed"
    memory(free.cost.nbytes - 1.0)
    assert choose(gram).name == "grouped"


def test_the_memory_predicted_is_that_held():
    case = CASES["crossed vector"]
    choice = choose(case.gram, "grouped")
    flat = choice.system.at(case.model.factors(np.ones(case.model.n_theta))).schur.flat
    assert flat.nbytes <= choice.cost.nbytes <= 2 * flat.nbytes + 8 * choice.system.leading.D.size


def test_text_marks_the_path_taken():
    choice = choose(CASES["crossed"].gram)
    lines = str(choice).splitlines()
    assert [line.split()[0] for line in lines] == ["grouped", "*", "sparse"]
    assert lines[1].split()[1] == "crossed"
    assert "operations" in lines[0]
    assert "nan" not in str(choice)


def cgroup(folder, limit, used, stat):
    for name, text in {"memory.max": limit, "memory.current": used, "memory.stat": stat}.items():
        (folder / name).write_text(f"{text}\n")
    return _cgroup_left(folder)


def test_a_file_cache_is_not_memory_in_use(tmp_path):
    stat = "anon 300\ninactive_file 600\nactive_file 50"
    assert cgroup(tmp_path, "1000", "950", stat) == 650.0
    assert cgroup(tmp_path, "1000", "1200", "anon 1200") == 0.0
    assert cgroup(tmp_path, "max", "950", stat) is None
    assert _cgroup_left(tmp_path / "absent") is None
    assert 0.0 < available_memory() < 1e15


def test_freed_memory_is_given_back_before_it_is_missed(monkeypatch):
    given = []
    monkeypatch.setattr(machine, "_give_back", lambda: given.append(1))
    monkeypatch.setattr(machine, "_left", lambda: 100.0 + 50.0 * len(given))
    assert available_memory() == available_memory(100.0) == 100.0
    assert available_memory(120.0) == 150.0
    assert given == [1]


def test_cores_that_other_processes_hold(tmp_path, monkeypatch):
    assert _held_cores(tmp_path) == 0
    (tmp_path / "loadavg").write_text("0.52 0.60 0.70 3/412 12345\n")
    for task, state in enumerate("RSS"):
        folder = tmp_path / "self" / "task" / str(task)
        folder.mkdir(parents=True)
        (folder / "stat").write_text(f"{task} (a (strange) R name) {state} 1 1 0\n")
    assert _held_cores(tmp_path) == 2
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(machine, "_held_cores", lambda: 2)
    assert cores_are_idle(2)
    assert not cores_are_idle(3)
    looks = iter([2, 0])
    monkeypatch.setattr(machine, "_held_cores", lambda: next(looks))
    assert cores_are_idle(4)


def test_cores_that_may_be_used(tmp_path, monkeypatch):
    assert _cgroup_cores(tmp_path) is None
    for text, cores in (
        ("max 100000", None),
        ("150000 100000", 2),
        ("200000 100000", 2),
        ("50000 100000", 1),
    ):
        (tmp_path / "cpu.max").write_text(text + "\n")
        assert _cgroup_cores(tmp_path) == cores
    for name in THREAD_LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "_cgroup_cores", lambda: None)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert usable_cores() == 6
    monkeypatch.setattr(machine, "_cgroup_cores", lambda: 4)
    assert usable_cores() == 4
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert usable_cores() == 3
    monkeypatch.setenv("MKL_NUM_THREADS", "0")
    assert usable_cores() == 1
