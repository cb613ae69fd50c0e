"""The experiments, a module each: `python -m bench.papers NAME` runs `studies/NAME.py`."""
