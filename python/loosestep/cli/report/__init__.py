"""What a run shows and writes: progress, the table, JSON, the plot."""
