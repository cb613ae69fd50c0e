"""The command line: `loosestep compare`, `train`, `run`, `plan`, `stalls` and `info`."""
