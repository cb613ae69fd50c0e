"""What strangers send to the sockets of a job."""

from __future__ import annotations

import os
import re
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.chaos.kind import SURVIVES, outside

MANY = 4000  # datagrams
LOOPBACK = "127.0.0.1"


def udp_ports(pids: list[int]) -> set[int]:
    """On which these processes hear datagrams."""
    sockets: set[str] = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):  # it has just been closed
                sockets |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(file)))
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[9] in sockets}


def junk(random: Any) -> bytes:
    """Of the length of a beat or another, of many bytes or none; with a rank where a beat has one."""
    return random.choice((
        random.randbytes(16),
        random.randbytes(random.randrange(70)),
        random.randbytes(8) + struct.pack("<II", random.choice((0, 1, 2, 2**32 - 1)), 0),
        random.randbytes(random.randrange(1000, 60_000)),
    ))  # fmt: skip


@outside(SURVIVES, hosts=True)
def strangers_send_datagrams(trial: Any) -> None:
    """To the heartbeat between hosts."""
    ports = sorted(udp_ports(list(trial.pids.values())))
    if not ports:
        trial.wrong("a job of several hosts has no heartbeat")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for _ in range(MANY if ports else 0):
            out.sendto(junk(trial.random), (LOOPBACK, trial.random.choice(ports)))
