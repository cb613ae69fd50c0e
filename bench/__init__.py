"""Benchmarks: `python -m bench NAME`. One file is one benchmark; see `bench.harness`."""
