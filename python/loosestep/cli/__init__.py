"""The command line: `loosestep compare`, `train`, `run` and `info`."""
