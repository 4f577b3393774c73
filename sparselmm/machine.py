"""What the machine offers: threads and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numba
from threadpoolctl import ThreadpoolController

WORTH_THREADS = 2e7  # operations per evaluation below which waking threads costs more than it saves


def thread_count(flops: float, threads: int | None) -> int:
    """Threads for evaluations of this many operations, unless the user says."""
    most = numba.config.NUMBA_NUM_THREADS
    if threads is not None:
        return min(threads, most)
    return most if flops > WORTH_THREADS else 1


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Run kernels and BLAS with `count` threads each (they take turns, never run side by side)."""
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        with _controller().limit(limits=count, user_api="blas"):
            yield
    finally:
        numba.set_num_threads(before)


@cache
def _controller() -> ThreadpoolController:
    """The BLAS libraries of this process: finding them takes milliseconds, so once."""
    return ThreadpoolController()


def available_memory() -> float:
    """Bytes that can be allocated now: the least of what system and control group leave."""
    limits = [_free_memory(), _cgroup_left()]
    return min(limit for limit in limits if limit is not None)


def _free_memory() -> float:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _cgroup_left() -> float | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = (folder / "memory.current").read_text().strip()
        return None if limit == "max" else float(limit) - float(used)
    except (OSError, ValueError):
        return None
