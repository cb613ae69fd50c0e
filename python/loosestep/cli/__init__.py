"""The command line: `loosestep compare`, `train`, `run`, `plan` and `info`."""
