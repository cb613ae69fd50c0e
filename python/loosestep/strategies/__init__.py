"""One algorithm a file. A new file here is found, tested and benchmarked without naming it anywhere."""
