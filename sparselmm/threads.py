"""Threads: ranges of a kernel side by side, and how many threads anything may use.

Kernels release the GIL and work on a range, so a pool of plain threads runs them; that costs less than numba's
parallel loops in compilation (seconds on a cold cache) and does not spin while other processes need the cores.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from itertools import pairwise
from time import perf_counter
from typing import Any

import numba
import numpy as np
from threadpoolctl import ThreadpoolController

from sparselmm._types import Array
from sparselmm.machine import cores_are_idle, usable_cores

WORTH_THREADS = 2e7  # operations per evaluation below which waking threads costs more than it saves
WORTH_BLAS_THREADS = 1e8  # operations of one call from which BLAS threads pay on idle cores
SMALLEST_RANGE = 2_000  # levels (or rows) that a thread should have at the least
PIECES = 4  # ranges per thread, so that uneven ones even out

BELIEVED = 0.03  # seconds that cores found idle are taken to be so

_asked: dict[int, float] = {}
_current: ContextVar[int] = ContextVar("threads", default=1)


def thread_count(flops: float, threads: int | None) -> int:
    """Threads for evaluations of this many operations, unless the user says."""
    most = numba.config.NUMBA_NUM_THREADS  # pyright: ignore
    if threads is not None:
        return min(threads, most)
    return min(usable_cores(), most) if flops > WORTH_THREADS else 1


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let kernels use `count` threads, and BLAS one but within `wide_blas`."""
    token = _current.set(count)
    try:
        with _controller().limit(limits=1, user_api="blas"), _numba_threads(count):
            yield
    finally:
        _current.reset(token)


@contextmanager
def _numba_threads(count: int) -> Iterator[None]:
    """Limit numba's own threads, which only the sparse path uses; asking for them would start them."""
    if "sparselmm.kernels.selinv" not in sys.modules:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)


@contextmanager
def wide_blas(flops: float) -> Iterator[None]:
    """Let BLAS use as many threads as kernels may, if the work is worth it and cores are idle.

    Its threads wait for each other by spinning: where another process holds a core, all of them together can be ten
    times slower than one.
    """
    threads = _current.get()
    if flops < WORTH_BLAS_THREADS or threads == 1 or not _idle(threads):
        yield
        return
    with _controller().limit(limits=threads, user_api="blas"):
        yield


def _idle(threads: int) -> bool:
    """Whether other processes leave so many cores alone, as of a moment ago: to ask takes as long as small work."""
    if perf_counter() > _asked.get(threads, -BELIEVED) + BELIEVED:
        if not cores_are_idle(threads):
            return False
        _asked[threads] = perf_counter()
    return True


def over_range(
    kernel: Callable[..., None],
    n: int,
    *args: Any,
    smallest: int = SMALLEST_RANGE,
    work: Array | None = None,
) -> None:
    """Run ``kernel(begin, end, *args)`` over 0 to n, in pieces side by side where that pays.

    Where some members take much longer than others, ``work``, shape (n + 1,), says what all before each take.
    """
    if _current.get() == 1:
        kernel(0, n, *args)
    else:
        map_range(lambda begin, end: kernel(begin, end, *args), n, smallest, work)


def sum_over_range(task: Callable[[int, int], Any], n: int, smallest: int = SMALLEST_RANGE) -> Any:
    """Sum of ``task(begin, end)`` over ranges that make up 0 to n, side by side where that pays."""
    first, *others = map_range(task, n, smallest)
    return sum(others, first)


def map_range(
    task: Callable[[int, int], Any],
    n: int,
    smallest: int = SMALLEST_RANGE,
    work: Array | None = None,
) -> list[Any]:
    """Results of ``task(begin, end)`` for ranges that make up 0 to n, in their order."""
    threads = _current.get()
    pieces = min(threads * PIECES, n // smallest)
    if threads == 1 or pieces < 2:
        return [task(0, n)]
    if work is None:
        ranges = _ranges(n, pieces)
    else:
        inner = np.searchsorted(work, work[-1] * np.arange(1, pieces) / pieces)
        ranges = list(pairwise([0, *inner.tolist(), n]))
    return side_by_side([partial(task, *ends) for ends in ranges])


def split_range(n: int, most: int) -> list[tuple[int, int]]:
    """0 to n in one range for each thread, but in so many at most."""
    return _ranges(n, max(min(_current.get(), most, n), 1))


def _ranges(n: int, pieces: int) -> list[tuple[int, int]]:
    return list(pairwise(n * i // pieces for i in range(pieces + 1)))


def side_by_side(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results of independent tasks that release the GIL, in their order.

    The calling thread works too: on a busy machine, where the others wake late, it loses nothing by having asked.
    """
    threads = min(_current.get(), len(tasks))
    if threads < 2:
        return [task() for task in tasks]
    left = deque(enumerate(tasks))
    results: list[Any] = [None] * len(tasks)

    def work() -> None:
        while True:
            try:
                i, task = left.popleft()
            except IndexError:
                return
            results[i] = task()

    others = [_pool(_current.get()).submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:  # after an error nobody begins another task, and nobody is left at work
        left.clear()
        running = [other for other in others if not other.cancel()]
        wait(running)
    for other in running:
        other.result()
    return results


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sparselmm")


if hasattr(os, "register_at_fork"):  # a forked process inherits the pool but not its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _controller() -> ThreadpoolController:
    """The BLAS libraries of this process; scipy and CHOLMOD bring their own when they are loaded."""
    return _find_libraries(
        tuple(name in sys.modules for name in ("scipy.linalg", "sksparse.cholmod"))
    )


@cache
def _find_libraries(_loaded: tuple[bool, ...]) -> ThreadpoolController:
    """Search for libraries, which takes milliseconds: once for every set of packages."""
    return ThreadpoolController()
