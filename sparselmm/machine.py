"""What the machine has left: memory and cores; bytes in words."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

THREAD_LIMITS = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"


MODEST = 2.0**27  # bytes that are not worth a look at what is free
ADAPTED = (1 << 25) - (1 << 16)  # bytes: a little less than the largest block that glibc adapts to


@cache
def keep_freed_memory() -> None:
    """Let arrays of a fit go where freed ones were, once per process.

    glibc gives blocks beyond a threshold back to the system, which clears every page again when the next array
    touches it: up to a third of the time of a fit in fractions of a second. The threshold follows the largest
    block freed so far, up to 32 MiB; this frees one that nobody has touched.
    """
    np.empty(ADAPTED, np.uint8)


def available_memory(needed: float = 0.0, most: float = np.inf) -> float:
    """Bytes that can be allocated now: the least of what system and control group leave.

    Where that is less than needed, memory that was freed but kept is given back first. Where even the most that could
    be asked for is modest, the answer is that much: to look takes as long as a good part of a small fit.
    """
    if most <= MODEST:
        return most
    left = _left()
    if needed <= left:
        return left
    _give_back()
    return _left()


def _left() -> float:
    limits = [_free_memory(), _cgroup_left()]
    return min(limit for limit in limits if limit is not None)


def _give_back() -> None:
    """Let glibc return whole pages that hold nothing; other systems do so by themselves or cannot."""
    import ctypes

    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def size_text(nbytes: float) -> str:
    """Bytes as three digits of the unit that suits them.

    Examples
    --------
    >>> size_text(100), size_text(3.25 * 2**20), size_text(1010.0 * 2**30)
    ('100 B', '3.25 MiB', '1,010 GiB')
    """
    unit = "B"
    for larger in ("KiB", "MiB", "GiB"):
        if nbytes < 1023.5:
            break
        nbytes, unit = nbytes / 1024, larger
    return f"{nbytes:,.0f} {unit}" if nbytes >= 999.5 else f"{nbytes:.3g} {unit}"


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


def _cgroup_left(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """What a control group leaves; its pages of files that nobody uses are given up on demand."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = float((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        unused = dict(line.split() for line in lines).get("inactive_file", "0")
        return None if limit == "max" else max(float(limit) - used + float(unused), 0.0)
    except (OSError, ValueError):
        return None


def usable_cores() -> int:
    """Cores that this process may use: its affinity, its control group's share, and what the environment allows."""
    affinity = getattr(os, "sched_getaffinity", None)
    own = len(affinity(0)) if affinity else os.cpu_count() or 1
    told = [os.environ.get(name, "") for name in THREAD_LIMITS]
    limits = [own, _cgroup_cores(), *(int(text) for text in told if text.isdecimal())]
    return max(min(limit for limit in limits if limit is not None), 1)


def _cgroup_cores(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Whole cores that a control group's share amounts to, rounded up; None without a limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None


def cores_are_idle(wanted: int) -> bool:
    """Whether other processes leave so many cores alone; yes on systems that do not tell.

    A second look tells what stays from the kernel's own short errands.
    """
    free = (os.cpu_count() or 1) - wanted
    return any(_held_cores() <= free for _ in range(2))


def _held_cores(proc: Path = Path("/proc")) -> int:
    """Cores on which another process runs at this moment."""
    try:
        running = int((proc / "loadavg").read_text().split()[3].partition("/")[0])
        if running <= 1:  # the thread that asks: most often so, and a tenth of the time
            return 0
        tasks = [task.read_text() for task in (proc / "self" / "task").glob("*/stat")]
        own = sum(task.rpartition(")")[2].split()[0] == "R" for task in tasks)
    except (OSError, ValueError, IndexError):
        return 0
    return running - own
