"""Memory that the machine has left."""

from __future__ import annotations

import os
from pathlib import Path


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
