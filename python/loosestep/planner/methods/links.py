"""Links by name or by number: what a person knows of a network before anything is measured on it."""

from __future__ import annotations

import re
from types import MappingProxyType

from loosestep.requests.links import Links

PRESETS = MappingProxyType(
    {
        "1 GbE": Links(50e-6, 125e6),
        "10 GbE": Links(30e-6, 1.25e9),
        "25 GbE": Links(20e-6, 3.125e9),
        "100 GbE": Links(10e-6, 12.5e9),
        "InfiniBand HDR": Links(2e-6, 25e9),
        "1 Gbit/s WAN": Links(10e-3, 125e6),
        "100 Mbit/s WAN": Links(25e-3, 12.5e6),
        "TCP over the internet": Links(50e-3, 2.5e6),
    }
)
"""Links that have a name: the line's nominal rate, and a latency that is common on such lines; none was measured.

A long way through the internet is bounded by TCP's answer to lost packets instead of a line: at 100 ms there and
back, 1,460 bytes a packet and 5 of 100,000 lost, 1.22 * 1460 / 0.1 / sqrt(5e-5) is 2.5 MB/s (M. Mathis et al.,
The macroscopic behavior of the TCP congestion avoidance algorithm, 1997).
"""

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
NUMBER = r"(\d+\.?\d*(?:e-?\d+)?)"
NUMBERS = re.compile(rf"{NUMBER} *(s|ms|us|µs) *,? +{NUMBER} *([kMGT]?)(bit|B)/s")


def named(text: str) -> Links:
    """Return the links that a text names, 'TCP over the internet', or gives by numbers, '5 ms, 100 Mbit/s'.

    Case and spaces of a name do not matter. Numbers are the seconds of a message and what a link carries.

    >>> named("10GbE")
    Links(latency=3e-05, bandwidth=1250000000.0)
    >>> named("5 ms, 100 Mbit/s")
    Links(latency=0.005, bandwidth=12500000.0)

    Raises ValueError for any other text.
    """
    known = {plain(name): links for name, links in PRESETS.items()}
    if plain(text) in known:
        return known[plain(text)]
    found = NUMBERS.fullmatch(text.strip())
    if found is None or not float(found[3]):
        raise ValueError(
            f"links must be a latency and a bandwidth, as in '5 ms, 100 Mbit/s', or one of {', '.join(PRESETS)}; "
            f"got {text!r}"
        )
    latency, time, rate, prefix, unit = found.groups()
    return Links(float(latency) * SECONDS[time], float(rate) * PREFIXES[prefix] / (8 if unit == "bit" else 1))


def plain(name: str) -> str:
    """Return a name without what people write differently."""
    return re.sub(r"[\s_-]", "", name.casefold())
