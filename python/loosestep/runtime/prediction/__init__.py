"""How long a run would take: what its workers ask for, recorded once, and replayed by the core."""
