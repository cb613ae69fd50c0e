"""Workers that are groups of processes, with FSDP2 or DDP inside."""
