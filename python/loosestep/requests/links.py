"""What is known of the links between workers, by which a collective's form is chosen."""

from __future__ import annotations

from typing import NamedTuple


class Links(NamedTuple):
    """The links between workers' hosts, the slowest of them: seconds a message takes, and bytes a second.

    All workers of a run have the same two numbers, so all choose alike.
    """

    latency: float
    bandwidth: float
