"""What a run shows and leaves: the start block, live progress, the table, JSON, the picture."""
