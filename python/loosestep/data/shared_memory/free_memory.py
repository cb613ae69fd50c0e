"""How much memory this process may still take: the system's, or its control group's if that is less."""

from __future__ import annotations

from math import inf
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
GROUPS = Path("/sys/fs/cgroup")


def free_memory(meminfo: Path = MEMINFO, groups: Path = GROUPS) -> float:
    """Return the bytes that are left; infinite where the system does not say."""
    return min(of_system(meminfo), of_group(groups))


def of_system(meminfo: Path) -> float:
    """Return what the kernel takes for available: free, or in use for caches that it can drop."""
    for line in meminfo.read_text().splitlines() if meminfo.exists() else ():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return float(rest.split()[0]) * 1024
    return inf


def of_group(groups: Path) -> float:
    """Return what the limit of this container leaves, pages of files not counted; there may be none."""
    try:
        most = (groups / "memory.max").read_text().strip()
        used = int((groups / "memory.current").read_text())
        facts = dict(line.split() for line in (groups / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return inf
    dropped = int(facts.get("inactive_file", 0)) + int(facts.get("active_file", 0))
    return inf if most == "max" else max(0.0, float(most) - used + dropped)
