"""How much memory this process may still take: the system's, or its control group's if that is less."""

from __future__ import annotations

from math import inf
from pathlib import Path

MEMINFO, GROUP = Path("/proc/meminfo"), Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def free_memory(meminfo: Path = MEMINFO, group: Path = GROUP, groups: Path = GROUPS) -> float:
    """Return the bytes that are left; infinite where the system does not say."""
    return min([of_system(meminfo), *(of_group(each) for each in own_groups(group, groups))])


def own_groups(group: Path, groups: Path) -> list[Path]:
    """Return the folders of this process's control group and of those that it is in (version 2)."""
    lines = group.read_text().splitlines() if group.exists() else []
    path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    own = groups / path
    return [groups, *(each for each in (own, *own.parents) if groups in each.parents)]


def of_system(meminfo: Path) -> float:
    """Return what the kernel takes for available: free, or in use for caches that it can drop."""
    for line in meminfo.read_text().splitlines() if meminfo.exists() else ():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return float(rest.split()[0]) * 1024
    return inf


def of_group(group: Path) -> float:
    """Return what the limit of a control group leaves, pages of files not counted; there may be none."""
    try:
        most = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return inf
    dropped = int(facts.get("inactive_file", 0)) + int(facts.get("active_file", 0))
    return inf if most == "max" else max(0.0, float(most) - used + dropped)
