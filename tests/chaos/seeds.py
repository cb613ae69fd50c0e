"""What of the suite is run: the short part, that of a seed, or one trial again.

CHAOS_SEED (0), CHAOS_TRIALS (20 jobs), CHAOS_KINDS (names, commas between; all) and CHAOS_CASES (of each fuzz; as
many as it has) say what `pytest -m chaos` does. CHAOS_TRIAL and CHAOS_CASE, which a failure prints, do one thing
again. CHAOS_PATIENCE lengthens all limits of time for a busy machine.
"""

from __future__ import annotations

import os

SEED = int(os.environ.get("CHAOS_SEED", "0"))
TRIALS = int(os.environ.get("CHAOS_TRIALS", "20"))
NAMES = [name for name in os.environ.get("CHAOS_KINDS", "").split(",") if name]
TRIAL = os.environ.get("CHAOS_TRIAL", "")
CASES = int(os.environ.get("CHAOS_CASES", "0"))
CASE = int(os.environ.get("CHAOS_CASE", "-1"))
