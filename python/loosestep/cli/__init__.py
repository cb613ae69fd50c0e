"""The command line: `loosestep compare`, `train`, `run`, `stalls` and `info`."""
