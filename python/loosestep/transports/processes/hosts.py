"""Which processes share a host: those that can map each other's memory."""

from __future__ import annotations

import os
import platform
import uuid
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from loosestep import _core

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loosestep.lowering.hierarchical import Hosts
    from loosestep.requests import Group
    from loosestep.transports.processes.progress import BlockingCalls

SIZE = 16  # bytes of a mark
PROC = Path("/proc")


def marks() -> tuple[bytes, bytes]:
    """Return two marks of 16 bytes, of the host and of its network.

    The first is the same for processes that see each other in /proc: one kernel, one name, one name space. The
    second is for those that also reach each other at 127.0.0.1. Without /proc each process is a host of its own.
    """
    name = platform.node()
    if not PROC.joinpath("self/ns").is_dir():
        return digest(f"{uuid.getnode()} {name} {os.getpid()}"), digest(f"{uuid.getnode()} {name}")
    boot = PROC.joinpath("sys/kernel/random/boot_id").read_text()
    host = f"{boot} {name} {os.readlink(PROC / 'self/ns/pid')}"
    net = f"{host} {os.readlink(PROC / 'self/ns/net')}"
    return digest(host), digest(net)


def digest(text: str) -> bytes:
    """Return 16 bytes that stand for a text."""
    return blake2b(text.encode(), digest_size=SIZE).digest()


def grouped(found: Sequence[tuple[bytes, bytes]]) -> tuple[Hosts, bool]:
    """Return the ranks of each host, and whether all are on one machine and network, from all ranks' marks.

    Hosts are in the order of their first ranks.
    """
    hosts: dict[bytes, list[int]] = {}
    for rank, (host, _) in enumerate(found):
        hosts.setdefault(host, []).append(rank)
    return tuple(map(tuple, hosts.values())), len({net for _, net in found}) == 1


def cores_for(calls: BlockingCalls, group: Group) -> int:
    """Return how many cores the ranks of a group have together; every rank of the run calls this.

    A launcher may have bound each to one of its own.
    """
    mine, allowed = sorted(os.sched_getaffinity(0)), _core.info()["cores"]
    found = calls.all_gather_object("cores", lambda: [mine, allowed])()
    cores = {core for rank in group for core in found[rank][0]}
    quotas = [allowed for mine, allowed in (found[rank] for rank in group) if allowed < len(mine)]
    return int(min([len(cores), *quotas]))
