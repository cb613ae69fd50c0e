"""One rank of a job under mpiexec that runs every case: a job for each file would import torch as often."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.torch import sharing
from tests.torch.checkpoint import failing_saves
from tests.torch.processes import (
    ranks,
    ranks_adversarial,
    ranks_buffers,
    ranks_device,
    ranks_gradients,
    ranks_mixed,
    ranks_needs,
    ranks_placed,
    ranks_several,
    ranks_sparse,
    ranks_together,
    ranks_users,
)

QUIET = (
    failing_saves,
    ranks_adversarial,
    ranks_together,
    ranks_mixed,
    ranks_needs,
    ranks_placed,
    ranks_several,
    sharing,
    ranks_device,
    ranks_sparse,
)
FILES = (*QUIET, ranks_buffers, ranks, ranks_gradients, ranks_users)
"""The last cases of four end a session with an error."""

if __name__ == "__main__":
    for file in FILES:
        for name, case in file.CASES.items():
            print(f"rank {case()}: {file.__name__} {name} ok", flush=True)
