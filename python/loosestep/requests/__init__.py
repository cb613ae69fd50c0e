"""The requests that a strategy yields, and the worker that yields them. A request is data and performs nothing.

Results land in the buffers that a request names, so nothing is sent back into a strategy. Requests are
compared by identity and are their own handles: `Wait(request)` waits for what `Start(request)` began.
Collectives take `group`, the ranks that take part (None: all workers).
"""

from loosestep.requests.base import (
    Bucket,
    Buffer,
    Communication,
    Compute,
    Group,
    Reduction,
    Request,
    Shared,
    Weights,
)
from loosestep.requests.communication import (
    AllGather,
    AllReduce,
    Barrier,
    Broadcast,
    Elastic,
    Exchange,
    Fetch,
    Mix,
    Push,
    Sleep,
    Start,
    Wait,
)
from loosestep.requests.compute import Gradient, Local, Proximal, Ready, Update

__all__ = [
    "AllGather", "AllReduce", "Barrier", "Broadcast", "Bucket", "Buffer", "Communication", "Compute", "Elastic",
    "Exchange", "Fetch", "Gradient", "Group", "Local", "Mix", "Proximal", "Push", "Ready", "Reduction", "Request",
    "Shared", "Sleep", "Start", "Update", "Wait", "Weights",
]  # fmt: skip
