"""Writes a timeline in the JSON that chrome://tracing and Perfetto show."""

from __future__ import annotations

from typing import Any

from loosestep.planner.parallelism.program import COMPUTE, IN, OUT
from loosestep.planner.parallelism.simulator import Timeline

ROWS = {COMPUTE: 0, OUT: 1, IN: 2}
MICROSECONDS = 1e6


def chrome_trace(timeline: Timeline) -> dict[str, Any]:
    """Return the trace: a process for each device, with a row for its arithmetic and one for each way of its link.

    Times are microseconds, as the format wants; an operation that takes none is left out.

    Reference: Trace Event Format, "complete" events ("X") and metadata ("M").
    """
    devices = sorted(timeline.peak)
    events: list[dict[str, Any]] = []
    for device in devices:
        told = f"device {device} (peak {timeline.peak[device]} bytes)"
        events.append({"ph": "M", "name": "process_name", "pid": device, "args": {"name": told}})
        for name, row in ROWS.items():
            events.append({"ph": "M", "name": "thread_name", "pid": device, "tid": row, "args": {"name": name}})
    for event in timeline.events:
        op = event.op
        stage, direction, microbatch = op.task
        args = {"stage": stage, "microbatch": microbatch, "flops": op.flops, "bytes": op.nbytes}
        for device, occupied in op.occupies if event.end > event.begin else ():
            events.append(
                {
                    "ph": "X",
                    "name": f"{op.kind} {op.label}",
                    "cat": direction,
                    "pid": device,
                    "tid": ROWS[occupied],
                    "ts": event.begin * MICROSECONDS,
                    "dur": (event.end - event.begin) * MICROSECONDS,
                    "args": args,
                }
            )
    return {"traceEvents": events, "displayTimeUnit": "ms"}
